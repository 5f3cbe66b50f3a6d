"""The public names, each with the module that it is in; they load when they are first used."""

from .sites.hook_names import sites_of_layer as sites_of_layer
from .sites.site import Placement as Placement, Site as Site
from .sites.site_names import resolve_site as resolve_site
from .subject import load_subject_model as load_subject_model

__all__: list[str]
