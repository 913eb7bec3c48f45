// SPDX-License-Identifier: Apache-2.0
//
// Draws the map: the pages of each reservation, the chunks, and the lines between them. It is told what to
// draw and knows nothing of time.
"use strict";

const dom = (() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const links = byId("links");
  const svg = (tag, attributes) => {
    const element = document.createElementNS(links.namespaceURI, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  return { byId, make, svg };
})();

/** `draw(state, at)` shows the state after step `at`. */
function makePicture(timeline) {
  const { byId, make, svg } = dom;
  const { lanes, steps } = timeline;
  const links = byId("links");
  let state = null;
  let at = 0;
  let pointed = null; // the chunk that is pointed at
  let pinned = null; // and the one that was tapped

  // ---- the map: a row for each lane; lanes without a name share rows ----

  const reservedAt = lanes.map(() => Infinity);
  steps.forEach((step, index) => {
    if (step.op === "reserve") reservedAt[step.lane] = index;
  });
  const colours = [];
  lanes.forEach((lane) => colours.push(lane.name === undefined ? null : `var(--lane-${colours.filter(Boolean).length % 8})`));
  const rows = []; // {element, cells, name, lanes}
  const rowOf = [];
  lanes.forEach((lane, id) => {
    let row = lane.name === undefined ? rows.find((each) => each.spare === lane.spare) : undefined;
    if (!row) {
      row = { spare: lane.spare, lanes: [], cells: [], drawn: 0 };
      rows.push(row);
    }
    row.lanes.push(id);
    row.drawn = Math.max(row.drawn, lane.drawn);
    rowOf[id] = row;
  });
  rows.sort((one, other) => (one.spare !== undefined) - (other.spare !== undefined));
  const widest = Math.max(1, ...rows.map((row) => row.drawn));
  for (const row of rows) {
    row.element = make("div", row.spare === undefined ? "lane" : "lane spare");
    row.name = make("div", "name");
    const pages = make("div", "pages");
    pages.style.setProperty("--pages", widest);
    for (let page = 0; page < row.drawn; ++page) {
      const cell = make("button", "cell reserved");
      cell.type = "button";
      cell.tabIndex = -1;
      cell.text = cell.appendChild(make("span"));
      cell.bar = cell.appendChild(make("b"));
      cell.page = page;
      cell.row = row;
      row.cells.push(cell);
      pages.append(cell);
    }
    row.element.append(row.name, pages);
    byId("lanes").append(row.element);
  }
  const slots = [];
  for (let slot = 0; slot < memoryMap.slotsOf(timeline); ++slot) {
    const cell = make("button", "cell");
    cell.type = "button";
    cell.tabIndex = -1;
    cell.slotNumber = slot;
    slots.push(cell);
    byId("chunks").append(cell);
  }
  let stop = rows[0] && rows[0].cells[0]; // the one cell that the Tab key reaches
  if (stop) stop.tabIndex = 0;

  const current = (row) => row.lanes.find((id) => state.lanes[id].reserved);
  const colourOf = (chunk) => (chunk.owner === null ? null : colours[chunk.owner]) || "var(--free)";

  function chunkOf(cell) {
    if (cell.slotNumber !== undefined) return state.slots[cell.slotNumber];
    const id = current(cell.row);
    const mapped = id === undefined ? undefined : state.lanes[id].pages.get(cell.page);
    return mapped && mapped.chunk;
  }
  function textOf(cell) {
    if (cell.slotNumber !== undefined) return memoryMap.chunkText(timeline, state, state.slots[cell.slotNumber]);
    const id = current(cell.row);
    return memoryMap.pageText(timeline, state, id === undefined ? cell.row.lanes[0] : id, cell.page);
  }

  function drawLanes() {
    for (const row of rows) {
      const id = current(row);
      const lane = id === undefined ? null : state.lanes[id];
      const shown = row.lanes.find((each) => each === id) ?? row.lanes[0];
      row.element.classList.toggle("absent", !lane);
      const title = row.spare === undefined ? state.lanes[shown].name : "spare";
      const gone = row.lanes.every((each) => reservedAt[each] <= at);
      const used = lane ? `${lane.pages.size} of ${lanes[shown].pages.toLocaleString("en")} pages` : "";
      const absent = row.spare !== undefined ? "used for a moment" : gone ? "released" : "not there yet";
      row.name.replaceChildren(title, make("small", "", lane ? used : absent));
      if (colours[shown]) row.element.style.setProperty("--own", colours[shown]);
      row.cells.forEach((cell, page) => {
        const mapped = lane ? lane.pages.get(page) : undefined;
        const chunk = mapped && state.chunks.get(mapped.chunk);
        let look = "cell reserved";
        if (mapped) {
          look = mapped.allowed === "none" ? "cell mapped" : mapped.allowed === "read" ? "cell open read" : "cell open";
          if (chunk.places.size > 1) look += " shared";
          cell.style.setProperty("--own", colourOf(chunk));
        }
        cell.className = look;
        cell.text.textContent = mapped ? mapped.chunk : "";
        const live = mapped && lane.rows && mapped.allowed !== "none" ? (lane.rows.live[page] || 0) / lane.rows.of : 0;
        cell.bar.style.width = `${100 * live}%`;
        cell.setAttribute("aria-label", textOf(cell));
      });
    }
  }

  function drawChunks() {
    slots.forEach((cell, slot) => {
      const number = state.slots[slot];
      const chunk = number === undefined ? null : state.chunks.get(number);
      cell.className = !chunk ? "cell reserved" : chunk.places.size === 0 ? "cell free" : "cell open";
      cell.replaceChildren(chunk ? String(number) : "");
      if (chunk && chunk.places.size > 0) cell.style.setProperty("--own", colourOf(chunk));
      if (chunk && chunk.places.size > 1) {
        cell.className += " shared";
        cell.append(make("sup", "", `×${chunk.places.size}`));
      }
      cell.setAttribute("aria-label", textOf(cell));
    });
  }

  function cellsOf(number) {
    const chunk = state.chunks.get(number);
    if (!chunk) return [];
    return [...chunk.places.values()].map(([lane, page]) => rowOf[lane].cells[page]).filter(Boolean);
  }

  /** A line from each page of a chunk down to the chunk. */
  function connect(number, className) {
    const chunk = state.chunks.get(number);
    if (!chunk) return;
    const frame = links.getBoundingClientRect();
    const to = slots[chunk.slot].getBoundingClientRect();
    for (const cell of cellsOf(number)) {
      const from = cell.getBoundingClientRect();
      const x1 = from.left + from.width / 2 - frame.left;
      const y1 = from.bottom - frame.top;
      const x2 = to.left + to.width / 2 - frame.left;
      const y2 = to.top - frame.top;
      const bend = Math.min(60, (y2 - y1) / 2);
      links.append(svg("path", { d: `M${x1} ${y1}C${x1} ${y1 + bend} ${x2} ${y2 - bend} ${x2} ${y2}`, class: className }));
    }
  }

  function point() {
    const chosen = pointed ?? pinned;
    const shown = chosen !== null && state.chunks.has(chosen);
    for (const cell of document.querySelectorAll(".cell.same, .cell.touched")) cell.classList.remove("same", "touched");
    links.replaceChildren();
    byId("map").classList.toggle("dim", shown);
    if (shown) {
      for (const cell of cellsOf(chosen)) cell.classList.add("same");
      slots[state.chunks.get(chosen).slot].classList.add("same");
      connect(chosen, "");
      return;
    }
    const now = memoryMap.touched(timeline, at, state);
    for (const key of now.pages) {
      const [lane, page] = key.split(":").map(Number);
      const cell = rowOf[lane].cells[page];
      if (cell) cell.classList.add("touched");
    }
    for (const number of now.chunks) {
      const chunk = state.chunks.get(number);
      if (chunk) slots[chunk.slot].classList.add("touched");
      if (steps[at].op === "map") connect(number, "now");
    }
  }

  const hint = byId("detail").textContent;
  function describe(cell) {
    byId("detail").textContent = cell ? textOf(cell) : hint;
  }

  // ---- pointing: by mouse, by touch, by keys ----

  const map = byId("map");
  const cellAt = (event) => event.target.closest && event.target.closest("button.cell");
  map.addEventListener("pointerover", (event) => {
    const cell = cellAt(event);
    if (event.pointerType !== "mouse") return;
    pointed = cell ? chunkOf(cell) ?? null : null;
    describe(cell);
    point();
  });
  map.addEventListener("pointerleave", () => {
    pointed = null;
    describe(null);
    point();
  });
  map.addEventListener("click", (event) => {
    const cell = cellAt(event);
    const chunk = cell ? chunkOf(cell) ?? null : null;
    pinned = pinned === chunk ? null : chunk;
    if (cell && pinned === null) pointed = null;
    describe(cell);
    point();
  });
  map.addEventListener("focusin", (event) => {
    const cell = cellAt(event);
    if (!cell) return;
    if (stop) stop.tabIndex = -1;
    stop = cell;
    stop.tabIndex = 0;
    if (!cell.matches(":focus-visible")) return;
    pointed = chunkOf(cell) ?? null;
    describe(cell);
    point();
  });
  map.addEventListener("focusout", () => {
    pointed = null;
    point();
  });
  map.addEventListener("keydown", (event) => {
    const cell = cellAt(event);
    if (!cell) return;
    const ranks = [...rows.map((row) => row.cells), slots];
    const rank = ranks.findIndex((cells) => cells.includes(cell));
    const column = ranks[rank].indexOf(cell);
    const next = (cells) => cells && cells[Math.min(column, cells.length - 1)];
    const target = {
      ArrowLeft: () => ranks[rank][column - 1],
      ArrowRight: () => ranks[rank][column + 1],
      ArrowUp: () => next(ranks[rank - 1]),
      ArrowDown: () => next(ranks[rank + 1]),
    }[event.key];
    if (event.key === "Escape") {
      pinned = pointed = null;
      point();
    }
    if (!target) return;
    event.preventDefault();
    const found = target();
    if (found) found.focus();
  });
  window.addEventListener("resize", point);

  return {
    draw(nextState, nextAt) {
      state = nextState;
      at = nextAt;
      drawLanes();
      drawChunks();
      point();
      if (pointed === null) describe(null);
    },
  };
}
