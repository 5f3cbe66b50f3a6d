"""Just enough of vllm for `import delphi` where it is not installed; no benchmark runs a language-model server."""


class LLM:
    """Named by the peer's offline client, which is never made here."""


class SamplingParams:
    """As `LLM`."""
