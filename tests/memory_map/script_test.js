// SPDX-License-Identifier: Apache-2.0
//
// The script of a page, without a browser: its steps lead forwards and backwards to the end that the program
// wrote down, and everything has words. Usage: node script_test.js PAGE.html
"use strict";
const assert = require("assert");
const fs = require("fs");
const vm = require("vm");

const page = fs.readFileSync(process.argv[2], "utf8");
const scripts = [...page.matchAll(/<script>([\s\S]*?)<\/script>/g)].map((match) => match[1]);
assert.strictEqual(scripts.length, 4);
scripts.forEach((text) => new vm.Script(text)); // the syntax
const { timeline, map } = vm.runInNewContext(`${scripts[0]};${scripts[1]};({ timeline, map: memoryMap })`);
const last = timeline.steps.length - 1;

/** The state in the form of timeline.end. */
function plain(state) {
  const lanes = {};
  state.lanes.forEach((lane, id) => {
    if (lane.reserved)
      lanes[id] = [...lane.pages].sort(([one], [other]) => one - other)
        .map(([at, mapped]) => [at, mapped.pages, mapped.chunk, mapped.allowed]);
  });
  return { lanes, chunks: [...state.chunks.keys()].sort((one, other) => one - other) };
}
const text = (value) => JSON.stringify(value);

let state = map.begin(timeline);
const seen = [];
timeline.steps.forEach((step, at) => {
  const words = map.sentence(timeline, at, state);
  assert.ok(words && !/undefined|NaN|\[object/.test(words), `step ${at}: ${words}`);
  assert.ok(!/undefined|NaN/.test(map.callText(timeline, at, state)));
  if (step.op !== "mark") assert.ok(map.callText(timeline, at, state));
  map.apply(timeline, state, step);
  assert.strictEqual(state.at, at);
  seen.push(text(plain(state)));

  assert.ok(map.savedBytes(timeline, state) <= timeline.totals.mapped[at]);
  let mapped = 0;
  let shared = 0;
  let physical = 0;
  for (const chunk of state.chunks.values()) {
    physical += chunk.pages;
    mapped += chunk.pages * chunk.places.size;
    shared += chunk.places.size > 1 ? chunk.pages * chunk.places.size : 0;
    assert.ok(chunk.places.size === 0 || chunk.owner !== null);
  }
  let behind = 0; // the same, seen from the pages
  for (const lane of state.lanes)
    for (const each of lane.pages.values()) behind += each.pages;
  assert.strictEqual(behind, mapped, `pages after step ${at}`);
  assert.strictEqual(mapped * timeline.page, timeline.totals.mapped[at], `mapped after step ${at}`);
  assert.strictEqual(shared * timeline.page, timeline.totals.shared[at], `shared after step ${at}`);
  assert.strictEqual(physical * timeline.page, timeline.totals.physical[at], `physical after step ${at}`);

  state.lanes.forEach((lane, id) => {
    for (let at = 0; at < timeline.lanes[id].drawn; ++at) assert.ok(!/undefined/.test(map.pageText(timeline, state, id, at)));
  });
  state.slots.forEach((number) => assert.ok(!/undefined/.test(map.chunkText(timeline, state, number))));
  const touched = map.touched(timeline, at, state);
  if (step.op === "map") assert.ok(touched.chunks.has(step.chunk) && touched.pages.has(`${step.lane}:${step.page}`));
});
assert.strictEqual(text(plain(state)), text(timeline.end));

// Backwards, and by leaps, it is the same.
for (const at of [last, 0, Math.floor(last / 2), last - 1, 3, last]) {
  state = map.stateAt(timeline, at, state);
  assert.strictEqual(text(plain(state)), seen[at], `step ${at}`);
}
assert.ok(map.chapters(timeline).length > 5);
assert.ok(map.slotsOf(timeline) * timeline.page >= Math.max(...timeline.totals.physical));
assert.strictEqual(map.bytesText(4096), "4 KiB");
assert.strictEqual(map.bytesText(1536), "1.5 KiB");
console.log(`${last + 1} steps, ${map.chapters(timeline).length} moments`);
