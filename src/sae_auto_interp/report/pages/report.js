// Sorts, filters and opens the rows of the feature table. Reads the page only; it holds no text of the run.
(() => {
  "use strict";
  const table = document.getElementById("features");
  const groups = Array.from(table.tBodies).filter((group) => group.id);
  const search = document.getElementById("search");
  const module = document.getElementById("module");
  const shown = document.getElementById("shown");
  const more = document.getElementById("more");
  const step = Number(more.dataset.step);
  let limit = step;  // rows laid out: a browser takes seconds over ten thousand

  const setOpen = (group, open) => {
    if (!group.querySelector(".detail")) return;
    group.querySelector(".toggle").setAttribute("aria-expanded", String(open));
    group.querySelector(".detail").hidden = !open;
  };

  // Feature, explanations and failures: what one would search for, but not the examples' text.
  const words = new Map();
  const wordsOf = (group) => {
    if (!words.has(group)) {
      const parts = group.querySelectorAll(".what, .findings blockquote, .findings .warn");
      words.set(group, Array.from(parts, (part) => part.textContent).join(" ").toLowerCase());
    }
    return words.get(group);
  };

  const filter = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const group of groups) {
      const fits = (!module.value || group.dataset.module === module.value)
        && wanted.every((word) => wordsOf(group).includes(word));
      count += fits;
      group.hidden = !fits || count > limit;
    }
    more.hidden = count <= limit;
    more.textContent = `Show ${Math.min(step, count - limit)} more`;
    shown.textContent = `${Math.min(count, limit)} of ${count === groups.length ? "" : `${count} found in `}${groups.length} shown`;
  };

  const collator = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => {
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? collator.compare(a, b) : x - y;
  };

  const sortBy = (header) => {
    const column = header.cellIndex;
    const startsHigh = header.matches(".score, .num");
    const current = header.getAttribute("aria-sort");
    const descending = current ? current === "ascending" : startsHigh;
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const valueOf = (group) => group.rows[0].cells[column].dataset.value;
    groups.sort((a, b) => {
      const [x, y] = [valueOf(a), valueOf(b)];
      if (x === "" || y === "") return (x === "") - (y === "");  // undefined values stay last
      return descending ? compare(y, x) : compare(x, y);
    });
    table.append(...groups);
    filter();
  };

  table.addEventListener("click", (event) => {
    const sort = event.target.closest(".sort");
    if (sort) return sortBy(sort.closest("th"));
    const row = event.target.closest("tr.summary");
    const group = row && row.parentElement;
    if (row && group.querySelector(".detail") && !String(getSelection())) {
      setOpen(group, group.querySelector(".detail").hidden);
    }
  });

  const openLinked = () => {
    const group = groups.find((each) => each.id === decodeURIComponent(location.hash.slice(1)));
    if (group) { group.hidden = false; setOpen(group, true); group.scrollIntoView(); }
  };
  const startAgain = () => { limit = step; filter(); };
  search.addEventListener("input", startAgain);
  module.addEventListener("change", startAgain);
  more.addEventListener("click", () => { limit += step; filter(); });
  addEventListener("hashchange", openLinked);
  filter();
  openLinked();
})();
