"use strict";
// Tables that sort, filter, and show their lines a hundred at a time.

const AT_ONCE = 100;

// columns: [{title, of(row) -> what is sorted by, cell(row) -> content, text, hint}]; options: {filter, count, more, words(row), what, chosen(row)}
function sortableTable(table, columns, options = {}) {
  const state = { rows: [], column: null, descending: false, shown: AT_ONCE };
  const body = element("tbody");
  const heads = columns.map((column, place) => {
    const button = element("button", { type: "button", title: column.hint }, column.title);
    const head = element("th", { scope: "col", class: column.text ? "text" : null, "aria-sort": "none" }, button);
    button.addEventListener("click", () => {
      state.descending = state.column === place && !state.descending;
      state.column = place;
      heads.forEach((each, k) => each.setAttribute("aria-sort", k !== place ? "none" : state.descending ? "descending" : "ascending"));
      draw();
    });
    return head;
  });
  table.replaceChildren(element("thead", {}, element("tr", {}, ...heads)), body);

  function draw() {
    const words = options.filter ? options.filter.value.toLowerCase().split(/\s+/).filter(Boolean) : [];
    const kept = words.length ? state.rows.filter((row) => { const text = options.words(row).toLowerCase(); return words.every((word) => text.includes(word)); }) : [...state.rows];
    if (state.column !== null) {
      const of = columns[state.column].of, sign = state.descending ? -1 : 1;
      // What is missing comes last, whichever way.
      kept.sort((a, b) => {
        const first = of(a), second = of(b);
        if (first === null || second === null) return (first === null) - (second === null);
        return sign * (typeof first === "string" ? first.localeCompare(second, "en", { numeric: true }) : first - second);
      });
    }
    body.replaceChildren(...kept.slice(0, state.shown).map((row) => element("tr", { class: options.chosen && options.chosen(row) ? "chosen" : null }, ...columns.map((column, place) => element("td", { class: [column.text ? "text" : "", place ? "" : "name"].join(" ").trim() || null }, ...[column.cell(row)].flat())))));
    const showing = Math.min(state.shown, kept.length);
    if (options.count) options.count.textContent = `${showing < kept.length ? `${showing} of ` : ""}${kept.length} ${kept.length === 1 ? options.what.slice(0, -1) : options.what}${kept.length < state.rows.length ? `, of ${state.rows.length}` : ""}`;
    if (options.more) options.more.hidden = showing >= kept.length;
  }

  if (options.filter) options.filter.addEventListener("input", () => { state.shown = AT_ONCE; draw(); });
  if (options.more) options.more.addEventListener("click", () => { state.shown += 5 * AT_ONCE; draw(); });
  return {
    draw,
    fill(rows) { state.rows = rows; state.shown = AT_ONCE; draw(); },
  };
}

// A plain table: headings, then lines of [heading, cell...]; a cell is a text, a node, or {text, small, share} with a shade.
function plainTable(table, headings, lines) {
  const cell = (content) => {
    if (content === null || typeof content !== "object" || content instanceof Node) return element("td", {}, content ?? "-");
    const made = element("td", {}, content.text, content.small ? element("small", {}, content.small) : null);
    made.style.background = `color-mix(in srgb, var(--accent) ${Math.round(55 * content.share)}%, transparent)`;
    return made;
  };
  table.replaceChildren(
    element("thead", {}, element("tr", {}, ...headings.map((heading) => element("th", { scope: "col" }, heading)))),
    element("tbody", {}, ...lines.map(([head, ...cells]) => element("tr", {}, element("th", { scope: "row", class: "name" }, ...[head].flat()), ...cells.map(cell)))),
  );
}
