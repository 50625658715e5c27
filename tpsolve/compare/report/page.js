"use strict";
// The page: its state, and what is drawn from the data.

(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const solvers = data.solvers;
  const state = { view: data.views[0], hidden: new Set(), instance: null, solves: null };
  const named = (place) => [swatch(place), solvers[place]];
  const ends = (low, high, show) => (low === null && high === null ? "" : `${show(low)} to ${high === null ? "∞" : show(high)}`);
  const twoLines = (first, second) => element("div", {}, first, element("small", {}, second));

  // --- theme -------------------------------------------------------------------------------------------------------
  const root = document.documentElement;
  const theme = () => { if ($("theme").value === "auto") delete root.dataset.theme; else root.dataset.theme = $("theme").value; };
  try { $("theme").value = localStorage.getItem("tpsolve-theme") || "auto"; } catch { /* Pages from disk may keep nothing. */ }
  $("theme").addEventListener("change", () => {
    theme();
    try { localStorage.setItem("tpsolve-theme", $("theme").value); } catch { /* As above. */ }
  });
  theme();
  document.body.classList.add("scripted");
  $("print").addEventListener("click", () => print());

  // --- solvers -----------------------------------------------------------------------------------------------------
  const LINE = { place: 0, alike: 1, left: 2, low: 3, high: 4, best: 5, proved: 6, flips: 7, seconds: 8, instances: 9, samples: 10, failures: 11 };
  const share = (key) => ({ of: (row) => row[LINE[key]], cell: (row) => percent(row[LINE[key]]) });
  const solverTable = sortableTable($("solver-table"), [
    { title: "solver", of: (row) => solvers[row[LINE.place]], cell: (row) => named(row[LINE.place]) },
    { title: "left", hint: "share of the attainable improvement not made", ...share("left") },
    { title: "95% interval", of: (row) => row[LINE.high], cell: (row) => (row[LINE.low] === null ? "-" : `${percent(row[LINE.low])} to ${percent(row[LINE.high])}`) },
    { title: "as the first", hint: "not told apart from the first by paired tests", of: (row) => (row[LINE.alike] ? 0 : 1), cell: (row) => (row[LINE.alike] ? "● yes" : "no") },
    { title: "best found", ...share("best") },
    { title: "proved optimal", ...share("proved") },
    { title: "flips", ...share("flips") },
    { title: "seconds a sample", of: (row) => row[LINE.seconds], cell: (row) => time(row[LINE.seconds]) },
    { title: "instances", of: (row) => row[LINE.instances], cell: (row) => String(row[LINE.instances]) },
    { title: "failures", of: (row) => row[LINE.failures], cell: (row) => String(row[LINE.failures]) },
  ], { filter: $("solver-filter"), count: $("solver-count"), what: "solvers", words: (row) => solvers[row[LINE.place]] });

  function legend() {
    const all = (text, wanted) => {
      const button = element("button", { type: "button", class: "all" }, text);
      button.addEventListener("click", () => { state.hidden = new Set(wanted ? [] : solvers.keys()); redraw(); });
      return button;
    };
    const buttons = solvers.map((name, place) => {
      const button = element("button", { type: "button", class: "name", "aria-pressed": "true", "data-solver": name }, swatch(place), name);
      button.addEventListener("click", () => {
        if (!state.hidden.delete(place)) state.hidden.add(place);
        redraw();
      });
      return button;
    });
    $("legend").append(all("all", true), all("none", false), ...buttons);
    return () => buttons.forEach((button, place) => button.setAttribute("aria-pressed", String(!state.hidden.has(place))));
  }
  const pressed = legend();

  // --- quality against time ----------------------------------------------------------------------------------------
  function courses(kind) {
    return Object.entries(state.view.curves[kind]).map(([place, [x, y]]) => ({ name: solvers[place], style: Number(place), x, y })).filter((each) => !state.hidden.has(each.style));
  }
  function charts() {
    const xLog = $("x-log").checked, yLog = $("y-log").checked;
    const left = courses("left");
    const least = Math.min(1, ...left.flatMap((each) => each.y.filter((y) => y > 0)));
    const floor = yLog ? Math.max(1e-4, 10 ** Math.floor(Math.log10(least))) : 0;
    lineChart($("chart-left"), left, { label: "Share of the attainable improvement left, against seconds.", xLog, yLog, yLow: Math.min(floor, yLog ? 0.1 : 0), yHigh: 1, direct: true });
    const shares = { xLog, yLog: false, yLow: 0, yHigh: 1 };
    lineChart($("chart-found"), courses("found"), { ...shares, label: "Share of samples at the best known objective, against seconds.", height: 300 });
    lineChart($("chart-proved"), courses("proved"), { ...shares, label: "Share of samples proved optimal, against seconds.", height: 300 });
    lineChart($("chart-targets"), courses("targets"), { ...shares, label: "Share of pairs of a run and a target that are reached, against seconds.", direct: true });
  }

  // --- targets, ranks, wins ----------------------------------------------------------------------------------------
  function tables() {
    const view = state.view;
    const target = (left) => (left === 0 ? "none left" : `${roundPercent(left)} left`);
    plainTable($("times-table"), ["solver", ...data.targets.map(target)], view.lines.map(([place]) => [named(place), ...(view.times[place].length ? view.times[place] : data.targets.map(() => null)).map((cell) => {
      if (cell === null) return "-";
      const [seconds, low, high, reached] = cell;
      if (seconds === null) return reached > 0 ? twoLines("-", `${percent(reached)} reach it`) : "never";
      return twoLines(time(seconds), [ends(low, high, time), `${percent(reached)} reach it`].filter(Boolean).join("; "));
    })]));
    const after = (cell) => {
      if (cell === null) return "-";
      const [left, low, high, nothing, of] = cell;
      return left === null ? twoLines("-", `nothing yet on ${nothing} of ${of}`) : twoLines(percent(left), ends(low, high, percent));
    };
    plainTable($("budgets-table"), ["solver", ...view.moments.map((moment) => time(moment))], view.lines.map(([place]) => [named(place), ...(view.budgets[place].length ? view.budgets[place] : view.moments.map(() => null)).map(after)]));
    const [names, wins, tests] = view.wins;
    const chance = (p) => (p === null ? "" : p < 0.001 ? "p < 0.001" : `p ${number(p, 2)}`);
    plainTable($("wins-table"), ["", ...names.map((place) => element("span", { class: "upright" }, solvers[place]))], names.map((place, row) => [named(place), ...wins[row].map((value, column) => (value === null ? "" : { text: `${Math.round(100 * value)}%`, small: chance(tests[row][column]), share: value }))]));
  }
  function ranks() {
    const entries = Object.entries(state.view.ranks).filter(([, rank]) => rank !== null).map(([place, rank]) => ({ name: solvers[place], style: Number(place), rank }));
    entries.sort((a, b) => a.rank - b.rank);
    const [p, critical] = state.view.friedman;
    $("ranks-words").textContent = entries.length
      ? `Mean ranks over the instances, 1 is the best. A bar reaches from a solver to the last one that it is not told apart from, after Nemenyi: critical difference ${number(critical)}. Friedman's test of all together: p = ${number(p, 2)}.`
      : "Mean ranks need two instances that three solvers share.";
    const few = Object.entries(state.view.ranks).filter(([, rank]) => rank === null).map(([place]) => solvers[place]);
    if (entries.length && few.length) $("ranks-words").textContent += ` Not ranked, since less than half of the instances have rows of it: ${few.join(", ")}.`;
    if (entries.length) rankChart($("chart-ranks"), entries, critical); else $("chart-ranks").replaceChildren();
  }

  // --- instances ---------------------------------------------------------------------------------------------------
  const about = data.instances;
  const places = about.name.map((_, place) => place);
  const column = (title, key, more = {}) => ({ title, of: (row) => about[key][row], cell: (row) => String(about[key][row]), ...more });
  const ahead = (row) => about.ahead[row].map((place) => solvers[place]);
  const instanceTable = sortableTable($("instance-table"), [
    column("instance", "name", {
      cell: (row) => {
        const button = element("button", { type: "button", class: "link name", "aria-expanded": String(state.instance === row) }, about.name[row]);
        button.addEventListener("click", () => open(row, button));
        return button;
      },
    }),
    column("loss", "loss", { text: true }),
    column("size", "size", { text: true }),
    column("samples", "samples"),
    column("best mean objective", "best", { cell: (row) => number(about.best[row], 5) }),
    { title: "proven samples", of: (row) => (about.samples[row] ? about.proven[row] / about.samples[row] : null), cell: (row) => `${about.proven[row]} of ${about.samples[row]}` },
    { title: "ahead", hint: "the solvers that leave least", text: true, of: (row) => ahead(row).length || null, cell: (row) => { const names = ahead(row); return names.length > 3 ? `${names.slice(0, 2).join(", ")} and ${names.length - 2} more` : names.join(", ") || "-"; } },
  ], { filter: $("instance-filter"), count: $("instance-count"), more: $("instance-more"), what: "instances", chosen: (row) => row === state.instance, words: (row) => [about.name[row], about.loss[row], ...ahead(row)].join(" ") });

  // Solves of the later instances lie in files beside the page, a script each, since pages from disk may read no others.
  const beside = new Map();
  window.tpsolveSolves = (start, solves) => solves.forEach((each, k) => beside.set(start + k, each));
  function solvesOf(place) {
    if (place < data.solves.length) return Promise.resolve(data.solves[place]);
    if (beside.has(place)) return Promise.resolve(beside.get(place));
    const part = Math.floor((place - data.solves.length) / data.beside);
    return new Promise((done, fail) => {
      const script = element("script", { src: `traces/${String(part).padStart(4, "0")}.js` });
      script.addEventListener("load", () => done(beside.get(place)));
      script.addEventListener("error", () => fail(new Error(`traces/${String(part).padStart(4, "0")}.js is not beside this page`)));
      document.head.append(script);
    });
  }

  const SOLVE = { solver: 0, seed: 1, group: 2, error: 3, seconds: 4, objective: 5, bound: 6, found: 7, proved: 8, trace: 9 };
  let opener = null;
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const detailTable = sortableTable($("detail-table"), [
    { title: "solver", of: (row) => solvers[row.solver], cell: (row) => named(row.solver) },
    { title: "seed", of: (row) => row.seed, cell: (row) => String(row.seed) },
    { title: "sample", of: (row) => row.sample, cell: (row) => (row.sample === null ? "-" : String(row.sample)) },
    { title: "objective", of: (row) => row.objective, cell: (row) => number(row.objective, 6) },
    { title: "left", of: (row) => row.left, cell: (row) => percent(row.left) },
    { title: "bound", of: (row) => row.bound, cell: (row) => number(row.bound, 6) },
    { title: "status", text: true, of: (row) => row.status, cell: (row) => row.status },
    { title: "found at", of: (row) => row.found, cell: (row) => time(row.found) },
    { title: "proved at", of: (row) => row.proved, cell: (row) => time(row.proved) },
    { title: "call", hint: "seconds of the call, all samples together", of: (row) => row.seconds, cell: (row) => time(row.seconds) },
    { title: "group", hint: "of machine, versions and budget, below", of: (row) => row.group, cell: (row) => String(row.group + 1) },
  ], { count: $("detail-count"), more: $("detail-more"), what: "lines" });

  function lines(solves) {
    return solves.solves.flatMap((each) => {
      const common = { solver: each[SOLVE.solver], seed: each[SOLVE.seed], group: each[SOLVE.group] };
      if (each[SOLVE.error]) return [{ ...common, sample: null, objective: null, left: null, bound: null, status: each[SOLVE.error], found: null, proved: null, seconds: null }];
      return each[SOLVE.objective].map((objective, sample) => {
        const start = solves.reference[sample] ?? null, best = solves.best[sample], room = start === null ? 0 : start - best;
        const proved = each[SOLVE.proved][sample];
        const left = objective === null ? 1 : room > 1e-9 ? Math.min(1, Math.max(0, (objective - best) / room)) : null;
        return { ...common, sample, objective, left, bound: each[SOLVE.bound][sample], status: proved === null ? (objective === null ? "none found" : "feasible") : "optimal", found: each[SOLVE.found][sample], proved, seconds: each[SOLVE.seconds] };
      });
    });
  }

  function detail() {
    if (state.solves === null) return;
    const solves = state.solves, wanted = $("detail-sample").value;
    const kept = lines(solves).filter((row) => !state.hidden.has(row.solver) && (wanted === "" || row.sample === null || String(row.sample) === wanted));
    detailTable.fill(kept);
    const start = solves.reference.length ? mean(solves.reference) : null, best = solves.best.length ? mean(solves.best) : null;
    const yLog = $("detail-log").checked;
    const series = start === null || best === null || start - best <= 1e-9 ? [] : solves.solves.filter((each) => !each[SOLVE.error] && each[SOLVE.trace].length && !state.hidden.has(each[SOLVE.solver])).map((each) => ({
      name: `${solvers[each[SOLVE.solver]]}, seed ${each[SOLVE.seed]}`, style: each[SOLVE.solver], width: 1.4, x: each[SOLVE.trace][0],
      y: each[SOLVE.trace][1].map((objective) => { const left = Math.min(1, Math.max(0, (objective - best) / (start - best))); return left < 1e-5 ? 0 : left; }),
    }));
    lineChart($("chart-detail"), series, { label: `Traces of ${about.name[state.instance]}: share left against seconds.`, xLog: $("x-log").checked, yLog, yLow: yLog ? 1e-4 : 0, yHigh: 1 });
  }

  async function open(place, button) {
    opener = button;
    state.instance = place;
    $("detail").hidden = false;
    $("detail-title").textContent = about.name[place];
    $("detail-words").textContent = "Reading its solves…";
    try {
      const solves = await solvesOf(place);
      if (state.instance !== place) return;
      state.solves = solves;
      $("detail-sample").replaceChildren(element("option", { value: "" }, "all"), ...solves.best.map((_, k) => element("option", { value: k }, String(k))));
      $("detail-words").textContent = `${about.loss[place]}, ${about.size[place]}, ${about.samples[place]} ${about.samples[place] === 1 ? "sample" : "samples"}, ${about.proven[place]} with a proven optimum. Best mean objective ${number(about.best[place], 6)}${solves.reference.length ? `, 100% left at ${number(mean(solves.reference), 6)}` : ""}. Long traces are thinned to ${data.tracePoints} points; rows.jsonl has all.`;
      detail();
    } catch (error) {
      state.solves = null;
      $("detail-words").textContent = `The solves of this instance can't be shown: ${error.message}.`;
      detailTable.fill([]);
      $("chart-detail").replaceChildren();
    }
    instanceTable.draw();
    $("detail").focus({ preventScroll: true });
    $("detail").scrollIntoView({ block: "nearest" });
  }
  function close() {
    $("detail").hidden = true;
    const place = state.instance;
    state.instance = state.solves = null;
    instanceTable.draw();
    const again = [...document.querySelectorAll("#instance-table .link")].find((each) => each.textContent === about.name[place]);
    (again || opener || $("instance-filter")).focus();
  }
  $("detail-close").addEventListener("click", close);
  $("detail").addEventListener("keydown", (event) => { if (event.key === "Escape" && event.target.tagName !== "svg") close(); });
  for (const id of ["detail-sample", "detail-log"]) $(id).addEventListener("change", detail);

  // --- all together ------------------------------------------------------------------------------------------------
  function redraw() {
    pressed();
    charts();
    detail();
  }
  function show() {
    $("advice").textContent = state.view.advice;
    solverTable.fill(state.view.lines);
    tables();
    ranks();
    const all = state.view === data.views[0];
    instanceTable.fill(all ? places : places.filter((row) => about.loss[row] === state.view.name));
    redraw();
  }
  if (data.views.length > 1) {
    $("family-choice").hidden = false;
    $("family").append(...data.views.map((view, place) => element("option", { value: place }, view.name)));
    $("family").addEventListener("change", () => { state.view = data.views[$("family").value]; show(); });
  }
  for (const id of ["x-log", "y-log"]) $(id).addEventListener("change", redraw);
  let width = innerWidth, waiting = 0;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(() => { charts(); ranks(); detail(); }, 80);
  });
  show();
})();
