// SPDX-License-Identifier: Apache-2.0
//
// What the steps of a timeline lead to, and their words. No document is needed: tests run it by itself.
"use strict";

const memoryMap = (() => {
  const count = (number, one, many) => `${number} ${number === 1 ? one : many || one + "s"}`;

  function bytesText(bytes) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = 0;
    while (unit + 1 < units.length && bytes >= 1024) {
      bytes /= 1024;
      ++unit;
    }
    return `${Number(bytes.toFixed(bytes < 10 && unit > 0 ? 1 : 0))} ${units[unit]}`;
  }

  /** Nothing reserved, no chunk; `at` is the last step that has been applied. */
  function begin(timeline) {
    return {
      at: -1,
      lanes: timeline.lanes.map((lane) => ({
        name: lane.name || "",
        reserved: false,
        pages: new Map(), // page → {chunk, allowed}
        rows: null,
      })),
      chunks: new Map(), // number → {slot, pages, destroyed, places: Map("lane:page" → [lane, page]), owner}
      slots: [], // slot of physical memory → chunk, or undefined
      chapter: null,
    };
  }

  function addChunk(state, step) {
    let slot = 0;
    while (state.slots[slot] !== undefined) ++slot;
    state.slots[slot] = step.chunk;
    state.chunks.set(step.chunk, { slot, pages: step.pages, destroyed: false, places: new Map(), owner: null });
  }

  function dropChunk(state, number) {
    state.slots[state.chunks.get(number).slot] = undefined;
    state.chunks.delete(number);
  }

  /** The pages at which mappings begin in [step.page, step.page + step.pages). */
  function pagesOf(lane, step) {
    const found = [];
    for (let page = step.page; page < step.page + step.pages; ++page) if (lane.pages.has(page)) found.push(page);
    return found;
  }

  const changes = {
    mark(state, step) {
      if (step.title) state.chapter = step;
    },
    name(state, step) {
      state.lanes[step.lane].name = step.name;
    },
    rows(state, step) {
      state.lanes[step.lane].rows = { of: step.of, live: step.live };
    },
    reserve(state, step) {
      state.lanes[step.lane].reserved = true;
    },
    release(state, step) {
      state.lanes[step.lane].reserved = false;
      state.lanes[step.lane].rows = null;
    },
    create: addChunk,
    destroy(state, step) {
      if (state.chunks.get(step.chunk).places.size === 0) dropChunk(state, step.chunk);
      else state.chunks.get(step.chunk).destroyed = true;
    },
    map(state, step, timeline) {
      const chunk = state.chunks.get(step.chunk);
      const named = timeline.lanes[step.lane].name !== undefined;
      // A chunk has the colour of the conversation that filled it, for as long as anything of it is mapped.
      const old = chunk.owner !== null && timeline.lanes[chunk.owner].name !== undefined;
      if (chunk.places.size === 0 || (named && !old)) chunk.owner = step.lane;
      chunk.places.set(`${step.lane}:${step.page}`, [step.lane, step.page]);
      state.lanes[step.lane].pages.set(step.page, { chunk: step.chunk, pages: step.pages, allowed: "none" });
    },
    access(state, step) {
      const lane = state.lanes[step.lane];
      for (const page of pagesOf(lane, step)) lane.pages.get(page).allowed = step.allowed;
    },
    unmap(state, step) {
      const lane = state.lanes[step.lane];
      for (const page of pagesOf(lane, step)) {
        const number = lane.pages.get(page).chunk;
        const chunk = state.chunks.get(number);
        chunk.places.delete(`${step.lane}:${page}`);
        lane.pages.delete(page);
        if (chunk.places.size === 0 && chunk.destroyed) dropChunk(state, number);
      }
    },
    failed() {},
    other() {},
  };

  function apply(timeline, state, step) {
    changes[step.op](state, step, timeline);
    for (const more of step.also || []) changes[more.op](state, more, timeline);
    ++state.at;
  }

  /** The state after step `at`; goes on from `state` where that is earlier, and may change it. */
  function stateAt(timeline, at, state) {
    if (!state || state.at > at) state = begin(timeline);
    while (state.at < at) apply(timeline, state, timeline.steps[state.at + 1]);
    return state;
  }

  // ---- words ----

  const laneName = (timeline, state, lane) =>
    (state && state.lanes[lane].name) || timeline.lanes[lane].name || "a spare address";

  function pagesText(step) {
    return step.pages === 1 ? `page ${step.page}` : `pages ${step.page} to ${step.page + step.pages - 1}`;
  }

  function list(words) {
    return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words[words.length - 1]}`;
  }

  /** The other lanes in which a chunk lies. */
  function elsewhere(timeline, state, chunk, lane) {
    const names = new Set();
    for (const [other] of chunk.places.values()) if (other !== lane) names.add(laneName(timeline, state, other));
    return [...names];
  }

  const sentences = {
    mark: (timeline, step) => step.title,
    reserve: (timeline, step, before) =>
      `Reserve ${count(timeline.lanes[step.lane].pages, "page")} of addresses for ` +
      `${laneName(timeline, before, step.lane)}. An address takes no memory.`,
    release: (timeline, step, before) => `Give the addresses of ${laneName(timeline, before, step.lane)} back.`,
    create: (timeline, step) =>
      `Create chunk ${step.chunk}: ${bytesText(step.pages * timeline.page)} of physical memory are taken.`,
    destroy: (timeline, step) => `Destroy chunk ${step.chunk}: its memory goes back to the system.`,
    map(timeline, step, before) {
      const chunk = before.chunks.get(step.chunk);
      const others = elsewhere(timeline, before, chunk, step.lane);
      const where = `${pagesText(step)} of ${laneName(timeline, before, step.lane)}`;
      if (others.length > 0)
        return `Map chunk ${step.chunk} behind ${where}, too. It already lies in ${list(others)}: no memory is taken.`;
      return `Map chunk ${step.chunk} behind ${where}.`;
    },
    access(timeline, step, before) {
      const where = `${pagesText(step)} of ${laneName(timeline, before, step.lane)}`;
      if (step.allowed === "read") return `Let ${where} be read, and not written.`;
      if (step.allowed === "read_write") return `Let ${where} be read and written.`;
      return `Let nobody touch ${where}.`;
    },
    unmap(timeline, step, before) {
      const lane = before.lanes[step.lane];
      const pages = pagesOf(lane, step);
      const stay = pages.filter((page) => before.chunks.get(lane.pages.get(page).chunk).places.size > 1);
      const names = new Set();
      for (const page of stay)
        for (const name of elsewhere(timeline, before, before.chunks.get(lane.pages.get(page).chunk), step.lane))
          names.add(name);
      const kept = [...names].filter((name) => name !== "a spare address");
      const more =
        kept.length > 0
          ? ` ${count(stay.length, "chunk")} of them ${stay.length === 1 ? "stays" : "stay"}, for ${list(kept)}.`
          : "";
      return `Unmap ${pagesText(step)} of ${laneName(timeline, before, step.lane)}. The addresses stay reserved.${more}`;
    },
    failed: (timeline, step) => `${step.verb} is refused (${step.code.replace(/_/g, " ")}): nothing has changed.`,
    other: (timeline, step) => `${step.verb}: no page changes.`,
  };

  /** What step `at` does, in a sentence; `before` is the state before it. */
  const sentence = (timeline, at, before) => sentences[timeline.steps[at].op](timeline, timeline.steps[at], before);

  /** The call as a programmer would write it. */
  function callText(timeline, at, state) {
    const step = timeline.steps[at];
    const where = step.lane === undefined ? "" : state.lanes[step.lane].name || "spare";
    switch (step.op) {
      case "mark":
        return "";
      case "reserve":
      case "release":
        return `${step.op}(${where}, ${bytesText(timeline.lanes[step.lane].pages * timeline.page)})`;
      case "create":
        return `create(${bytesText(step.pages * timeline.page)}) → chunk ${step.chunk}`;
      case "destroy":
        return `destroy(chunk ${step.chunk})`;
      case "map":
        return `map(${where} + ${bytesText(step.page * timeline.page)}, chunk ${step.chunk})`;
      case "access":
      case "unmap": {
        const range = `${where} + ${bytesText(step.page * timeline.page)}, ${bytesText(step.pages * timeline.page)}`;
        return step.op === "unmap" ? `unmap(${range})` : `set_access(${range}, ${step.allowed})`;
      }
      default:
        return `${step.verb}(…)`;
    }
  }

  /** What a step touches, to be pointed at: pages as "lane:page", and chunks. */
  function touched(timeline, at, after) {
    const step = timeline.steps[at];
    const pages = new Set();
    const chunks = new Set();
    if (step.chunk !== undefined) chunks.add(step.chunk);
    if (step.page !== undefined) {
      for (let page = step.page; page < step.page + step.pages; ++page) {
        pages.add(`${step.lane}:${page}`);
        const mapped = after.lanes[step.lane].pages.get(page);
        if (mapped) chunks.add(mapped.chunk);
      }
    }
    return { pages, chunks };
  }

  /** One page in words, for those who hear it and for the line under the picture. */
  function pageText(timeline, state, lane, page) {
    const name = laneName(timeline, state, lane);
    const here = `${name}, page ${page}`;
    if (!state.lanes[lane].reserved) return `${here}: not reserved`;
    const mapped = state.lanes[lane].pages.get(page);
    if (!mapped) return `${here}: reserved, no memory behind it`;
    const allowed = { none: "mapped, not accessible yet", read: "read-only", read_write: "readable and writable" };
    const others = [...state.chunks.get(mapped.chunk).places.values()]
      .filter(([otherLane, otherPage]) => otherLane !== lane || otherPage !== page)
      .map(([otherLane, otherPage]) => `${laneName(timeline, state, otherLane)}, page ${otherPage}`);
    const rows = state.lanes[lane].rows;
    const live = rows ? `; ${rows.live[page] || 0} of ${rows.of} rows in use` : "";
    const shared = others.length > 0 ? `; the same chunk lies at ${list(others)}` : "";
    return `${here}: chunk ${mapped.chunk}, ${allowed[mapped.allowed]}${live}${shared}`;
  }

  function chunkText(timeline, state, number) {
    const chunk = state.chunks.get(number);
    if (!chunk) return "physical memory that nobody has taken";
    const places = [...chunk.places.values()].map(([lane, page]) => `${laneName(timeline, state, lane)}, page ${page}`);
    if (places.length === 0) return `Chunk ${number}: taken, and free for whoever needs it next`;
    return `Chunk ${number}: behind ${list(places)}${places.length > 1 ? "; it is there once, and read in each place" : ""}`;
  }

  /** The steps at which something new begins. */
  const chapters = (timeline) =>
    timeline.steps.map((step, at) => ({ step, at })).filter(({ step }) => step.op === "mark" && step.title);

  /** The most slots of physical memory that are ever taken at once. */
  function slotsOf(timeline) {
    const state = begin(timeline);
    let most = 0;
    for (const step of timeline.steps) {
      apply(timeline, state, step);
      most = Math.max(most, state.slots.length);
    }
    return most;
  }

  /** What would be taken beyond what is, if each place needed a chunk of its own. */
  function savedBytes(timeline, state) {
    let pages = 0;
    for (const chunk of state.chunks.values()) pages += chunk.pages * Math.max(0, chunk.places.size - 1);
    return pages * timeline.page;
  }

  return { begin, apply, stateAt, sentence, callText, touched, pageText, chunkText, chapters, slotsOf, savedBytes, bytesText };
})();

if (typeof module !== "undefined") module.exports = memoryMap;
