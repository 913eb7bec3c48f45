// SPDX-License-Identifier: Apache-2.0
//
// Time: which step is shown, its caption, the totals, and how to get to another. What a step leads to and
// its words are in model.js, the map is in picture.js.
"use strict";

(() => {
  const { byId, make, svg } = dom;
  const { steps, totals } = timeline;
  const last = steps.length - 1;
  if (last < 0) {
    byId("chapter").textContent = "Nothing was recorded.";
    return;
  }
  const chapters = memoryMap.chapters(timeline);
  let state = null;
  let at = 0;
  let timer = 0;
  const picture = makePicture(timeline);

  // ---- totals ----

  const kinds = [
    ["reserved", "reserved: addresses, which cost nothing"],
    ["physical", "physical: memory that is taken"],
    ["mapped", "mapped: memory that conversations see"],
    ["shared", "shared: of it, seen in several places"],
  ];
  const top = Math.max(1, ...kinds.flatMap(([kind]) => totals[kind]));
  const chart = byId("chart");
  const xOf = (step) => (last === 0 ? 0 : (600 * step) / last);
  const yOf = (value) => 174 - (168 * value) / top;
  for (const [kind, words] of kinds) {
    const path = totals[kind].map((value, step) =>
      step === 0 ? `M0 ${yOf(value).toFixed(1)}` : `H${xOf(step).toFixed(1)}V${yOf(value).toFixed(1)}`);
    chart.append(svg("path", { d: path.join(""), class: `${kind}-total` }));
    const box = make("div", `${kind}-total`);
    box.append(make("dt", "", words), make("dd"));
    byId("totals").append(box);
  }
  const cursor = chart.appendChild(svg("line", { y1: 0, y2: 180 }));
  chart.parentElement.addEventListener("pointerdown", (event) => {
    const box = chart.getBoundingClientRect();
    go(Math.round((last * (event.clientX - box.left)) / box.width));
  });
  function drawTotals() {
    kinds.forEach(([kind], index) => {
      byId("totals").children[index].lastChild.textContent = memoryMap.bytesText(totals[kind][at]);
    });
    const saved = memoryMap.savedBytes(timeline, state);
    byId("saved").textContent = saved > 0 ? `Without sharing, ${memoryMap.bytesText(saved)} more would be taken now.` : "";
    cursor.setAttribute("x1", xOf(at));
    cursor.setAttribute("x2", xOf(at));
  }

  // ---- moments ----

  const moments = chapters.map(({ step, at: first }) => {
    const item = make("li");
    const button = make("button", "", step.title);
    button.type = "button";
    button.addEventListener("click", () => go(first));
    item.append(button);
    byId("moments").append(item);
    const tick = make("i");
    tick.style.left = `${last === 0 ? 0 : (100 * first) / last}%`;
    byId("ticks").append(tick);
    return button;
  });
  const chapterAt = (step) => chapters.filter((chapter) => chapter.at <= step).length - 1;

  function drawCaption(before) {
    const chapter = chapterAt(at);
    byId("chapter-count").textContent = chapter < 0 ? "" : `Moment ${chapter + 1} of ${chapters.length}`;
    byId("chapter").textContent = chapter < 0 ? "" : chapters[chapter].step.title;
    byId("chapter-text").textContent = chapter < 0 ? "" : chapters[chapter].step.text;
    const call = memoryMap.callText(timeline, at, state);
    byId("sentence").textContent = call ? before : "No call yet: go on to see what happens.";
    if (!call && (at === last || steps[at + 1].op === "mark")) byId("sentence").textContent = "No call is needed for this.";
    byId("call").textContent = call;
    byId("step-count").textContent = `step ${at + 1} of ${last + 1}`;
    if (!timer) byId("spoken").textContent = call ? before : `${byId("chapter").textContent}. ${byId("chapter-text").textContent}`;
    moments.forEach((button, index) => {
      if (index === chapter) button.setAttribute("aria-current", "step");
      else button.removeAttribute("aria-current");
    });
    if (moments[chapter]) {
      const list = byId("moments");
      const item = moments[chapter];
      if (item.offsetTop < list.scrollTop + list.offsetTop || item.offsetTop + item.offsetHeight > list.scrollTop + list.offsetTop + list.clientHeight)
        list.scrollTop = item.offsetTop - list.offsetTop - 40;
    }
  }

  // ---- time ----

  function go(step) {
    at = Math.min(last, Math.max(0, step));
    state = memoryMap.stateAt(timeline, at - 1, state);
    const sentence = memoryMap.sentence(timeline, at, state);
    state = memoryMap.stateAt(timeline, at, state);
    byId("slider").value = at;
    byId("slider").setAttribute("aria-valuetext", `step ${at + 1}: ${sentence}`);
    picture.draw(state, at);
    drawTotals();
    drawCaption(sentence);
    if (!timer) history.replaceState(null, "", `#${at}`); // so that a step can be pointed at
  }
  const jump = (by) => {
    const now = chapterAt(at);
    if (by < 0) go(now >= 0 && at > chapters[now].at ? chapters[now].at : (chapters[now - 1] || { at: 0 }).at);
    else go((chapters[now + 1] || { at: last }).at);
  };

  function play(on) {
    clearTimeout(timer);
    timer = 0;
    byId("play-sign").setAttribute("d", on ? "M1 0h3v10H1ZM6 0h3v10H6Z" : "M1 0 9.5 5 1 10Z");
    byId("play-word").textContent = on ? "Pause" : "Play";
    if (!on) return;
    if (at === last) go(0);
    const next = () => {
      go(at + 1);
      // A remark wants to be read before its calls begin.
      const words = steps[at].op === "mark" ? 2 + (steps[at].title.length + steps[at].text.length) / 14 : 1;
      const pause = Number(byId("speed").value) * words;
      timer = at < last ? setTimeout(next, pause) : 0;
      if (!timer) play(false);
    };
    timer = setTimeout(next, Number(byId("speed").value));
  }
  const halt = (then) => () => {
    play(false);
    then();
  };

  byId("slider").max = last;
  byId("slider").addEventListener("input", () => halt(() => go(Number(byId("slider").value)))());
  byId("play").addEventListener("click", () => play(!timer));
  byId("back").addEventListener("click", halt(() => go(at - 1)));
  byId("on").addEventListener("click", halt(() => go(at + 1)));
  byId("chapter-back").addEventListener("click", halt(() => jump(-1)));
  byId("chapter-on").addEventListener("click", halt(() => jump(1)));
  moments.forEach((button) => button.addEventListener("click", () => play(false)));

  const keys = {
    ArrowLeft: () => go(at - 1),
    ArrowRight: () => go(at + 1),
    PageUp: () => jump(-1),
    PageDown: () => jump(1),
    Home: () => go(0),
    End: () => go(last),
  };
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.defaultPrevented) return;
    const tag = event.target.tagName;
    if (tag === "SELECT" || event.target.classList.contains("cell")) return;
    if (event.key === " " && tag !== "BUTTON") {
      event.preventDefault();
      play(!timer);
    } else if (keys[event.key]) {
      event.preventDefault();
      halt(keys[event.key])();
    }
  });


  byId("to-about").addEventListener("click", () => byId("about").focus());
  play(false);

  byId("page-size").textContent = memoryMap.bytesText(timeline.page);
  const asked = Number(location.hash.slice(1));
  go(Number.isInteger(asked) ? asked : 0);
})();
