"""The script of the page: it searches and folds, and asks nothing of the network."""

SCRIPT = r"""
"use strict";
(() => {
  const form = document.getElementById("find");
  const { q, found, only, hide, back, next, folds } = form.elements;
  const units = [...document.querySelectorAll(".b")];
  const turns = [...document.querySelectorAll(".turn")];
  const LIMIT = 5000;
  const marks = globalThis.CSS?.highlights && globalThis.Highlight;
  let texts, hits = [], at = -1, more = false, opened = new Set(), timer = 0;

  // The ranges of all matches in one unit; a match may reach over several text nodes.
  function ranges(unit, pattern) {
    const nodes = [], starts = [], made = [];
    const walker = document.createTreeWalker(unit, NodeFilter.SHOW_TEXT);
    let text = "";
    while (walker.nextNode()) {
      nodes.push(walker.currentNode);
      starts.push(text.length);
      text += walker.currentNode.data;
    }
    let node = 0;
    const place = (offset) => {
      while (node + 1 < nodes.length && starts[node + 1] <= offset) node++;
      return [nodes[node], offset - starts[node]];
    };
    pattern.lastIndex = 0;
    for (const match of text.matchAll(pattern)) {
      const range = new Range();
      range.setStart(...place(match.index));
      const [last, offset] = place(match.index + match[0].length - 1);
      range.setEnd(last, offset + 1);
      made.push({ unit, range });
    }
    return made;
  }

  function show(index) {
    units.forEach((unit) => unit.classList.remove("now"));
    at = hits.length ? (index + hits.length) % hits.length : -1;
    const hit = hits[at];
    if (marks) {
      CSS.highlights.set("now", new Highlight(...(hit ? [hit.range] : [])));
    }
    const total = `${hits.length.toLocaleString("en")}${more ? "+" : ""}`;
    found.value = q.value.trim() ? (hit ? `${at + 1} of ${total}` : "none") : "";
    if (!hit) return;
    hit.unit.classList.add("now");
    hit.range.startContainer.parentElement.scrollIntoView({ block: "center" });
  }

  function search() {
    clearTimeout(timer);
    timer = 0;
    const words = q.value.trim();
    const near = hits[at]?.unit;
    texts ??= units.map((unit) => unit.textContent);
    const escaped = words.replace(/[\\^$.*+?()[\]{}|\/]/g, "\\$&").replace(/\s+/g, "\\s+");
    const pattern = new RegExp(escaped, "giu");
    hits = [];
    more = false;
    units.forEach((unit, index) => {
      pattern.lastIndex = 0;
      const hidden = hide.checked && unit.classList.contains("thought");
      const matches = words !== "" && !hidden && pattern.test(texts[index]);
      unit.classList.toggle("out", words !== "" && only.checked && !matches);
      if (!matches) return;
      if (hits.length >= LIMIT) more = true;
      else for (const hit of ranges(unit, pattern)) hits.push(hit);
    });
    turns.forEach((turn) => {
      const empty = words !== "" && only.checked && !turn.querySelector(".b:not(.out)");
      turn.classList.toggle("out", empty);
    });
    unfold();
    if (marks) CSS.highlights.set("hit", new Highlight(...hits.map((hit) => hit.range)));
    const same = hits.findIndex((hit) => hit.unit === near);
    show(Math.max(same, 0));
    if (!words) near?.scrollIntoView({ block: "center" });
  }

  // Open what hides a match; what was opened for the last search only is closed again.
  function unfold() {
    const wanted = new Set();
    for (const { range } of hits) {
      let element = range.startContainer.parentElement;
      for (; element; element = element.parentElement) {
        const shown = element.tagName !== "DETAILS" ||
          range.startContainer.parentElement.closest("summary")?.parentElement === element;
        if (!shown) wanted.add(element);
      }
    }
    for (const element of opened) if (!wanted.has(element)) element.open = false;
    opened = new Set([...wanted].filter((element) => !element.open || opened.has(element)));
    for (const element of wanted) element.open = true;
  }

  q.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(search, 120);
  });
  only.addEventListener("change", search);
  hide.addEventListener("change", () => {
    document.body.classList.toggle("quiet", hide.checked);
    search();
  });
  back.addEventListener("click", () => show(at - 1));
  next.addEventListener("click", () => show(at + 1));
  form.addEventListener("submit", (event) => event.preventDefault());
  q.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (timer) search();
      else show(at + (event.shiftKey ? -1 : 1));
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") {
      q.value = "";
      search();
      q.blur();
    } else if (event.target === q) {
      return;
    } else if (event.key === "/") {
      event.preventDefault();
      q.focus();
      q.select();
    } else if (event.key === "n" || event.key === "N") {
      show(at + (event.key === "N" ? -1 : 1));
    } else if (event.key === "t") {
      hide.click();
    }
  });
  // A link within the page leads also to what the search has hidden.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']");
    if (!link || !document.querySelector(link.hash)?.closest(".out")) return;
    q.value = "";
    search();
  });
  folds.addEventListener("click", () => {
    const open = folds.textContent === "unfold all";
    for (const element of document.querySelectorAll("details")) element.open = open;
    opened.clear();
    folds.textContent = open ? "fold all" : "unfold all";
  });
  form.hidden = false;
})();
"""
