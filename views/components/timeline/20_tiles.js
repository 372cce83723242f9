// What has been fetched of one recording: for each lane some stretches, at some resolutions.
const MARGIN = 0.5;        // of a view, fetched on both sides, so that a pan has something to show
const NEAR_EDGE = 0.15;    // of a view; when less than this is left beside it, more is fetched
const PIXELS_A_BIN = 2;
const BINS_ALIGNED = 64;   // stretches begin at multiples of so many bins, so that they can be reused
const MARKS_KEPT = 1.5e6;  // about 40 MB

class Tiles {
  constructor(duration) {
    this.duration = duration;
    this.parts = new Map();   // lane -> its stretches
    this.answers = new Set();
    this.marks = 0;
    this.frame = 0;
  }

  // The request that would show `lanes` from `a` to `b`, or null when nothing lies there.
  plan(a, b, width, find) {
    const level = levelOf(b - a, width), bin = 2 ** level, step = bin * BINS_ALIGNED;
    const room = MARGIN * (b - a);
    const start = Math.max(Math.floor((a - room) / step) * step, 0);
    const end = Math.min(Math.ceil((b + room) / step), Math.ceil(this.duration / step) || 1) * step;
    if (end <= start) return null;
    const near = NEAR_EDGE * (b - a);
    return {
      start, end, level, find, bins: (end - start) / bin,
      from: Math.max(a - near, 0), to: Math.min(b + near, this.duration),
      seenFrom: Math.max(a, 0), seenTo: Math.min(b, this.duration),
    };
  }

  add(plan, lanes, { head, columns }) {
    const answer = {
      head, columns, plan, used: this.frame, lanes: new Set(lanes),
      size: (columns.start?.length || 0) + (columns.time?.length || 0) + lanes.length,
      hits: plan.find !== "" && head.hits_known && !!head.searched,
    };
    const found = new Map();
    for (const lane of head.lanes || []) found.set(lane.id, lane);
    for (const lane of head.counters || []) found.set(lane.id, { ...lane, counter: true });
    for (const id of lanes) {
      const { first = 0, count = 0, exact = true, counter = false } = found.get(id) || {};
      const part = {
        answer, first, last: first + count, exact, counter, find: plan.find,
        start: plan.start, end: plan.end, level: plan.level,
      };
      if (!this.parts.has(id)) this.parts.set(id, []);
      this.parts.get(id).push(part);
    }
    this.answers.add(answer);
    this.marks += answer.size;
    this.evict();
  }

  evict() {
    const oldest = [...this.answers].sort((one, other) => one.used - other.used);
    for (const answer of oldest) {
      if (this.marks <= MARKS_KEPT || answer.used >= this.frame) return;
      this.answers.delete(answer);
      this.marks -= answer.size;
      for (const lane of answer.lanes) {
        const left = this.parts.get(lane).filter((part) => part.answer !== answer);
        if (left.length) this.parts.set(lane, left);
        else this.parts.delete(lane);
      }
    }
  }

  // Whether a lane has what the plan would fetch, at a resolution that is right for it.
  has(lane, plan) {
    return (this.parts.get(lane) || []).some((part) => part.find === plan.find && serves(part, plan));
  }

  // The stretches to draw between `a` and `b`, the best first: one that is right if there is one,
  // else what there is, scaled, so that the canvas never goes blank.
  segments(lane, a, b, plan) {
    const parts = this.parts.get(lane);
    if (!parts) return [];
    const found = [];
    const fill = (from, to, depth) => {
      if (from >= to || depth > 2) return;
      let best = null, most = -Infinity;
      for (const part of parts) {
        const overlap = Math.min(part.end, to) - Math.max(part.start, from);
        if (overlap <= 0) continue;
        const score = rank(part, plan, overlap / (to - from));
        if (score > most) { most = score; best = part; }
      }
      if (!best) return;
      best.answer.used = this.frame;
      const left = Math.max(best.start, from), right = Math.min(best.end, to);
      found.push({ part: best, from: left, to: right });
      fill(from, left, depth + 1);
      fill(right, to, depth + 1);
    };
    fill(Math.max(a, 0), Math.min(b, this.duration), 0);
    return found;
  }

  // Answers that came before the server knew where the text occurs are asked for again.
  forgetUnknownHits() {
    for (const answer of this.answers) {
      if (!answer.plan.find || answer.hits) continue;
      for (const lane of answer.lanes) {
        for (const part of this.parts.get(lane)) if (part.answer === answer) part.find = null;
      }
    }
  }

  // The answer that tells best where between `a` and `b` the searched text occurs.
  ticks(a, b, plan) {
    let best = null, most = -Infinity;
    for (const answer of this.answers) {
      if (!answer.columns.ticks || answer.plan.find !== plan.find) continue;
      const overlap = Math.min(answer.plan.end, b) - Math.max(answer.plan.start, a);
      const score = overlap <= 0 ? -Infinity : rank(answer.plan, plan, overlap / (b - a));
      if (score > most) { most = score; best = answer; }
    }
    return best;
  }
}

function levelOf(length, width) {
  return Math.max(0, Math.round(Math.log2(PIXELS_A_BIN * length / width)));
}

function serves(part, plan) {
  if (part.start > plan.from || part.end < plan.to) return false;
  // Events that are all there need not come again when less of them is in view.
  return part.level >= plan.level - 1 && (part.level <= plan.level || part.exact === true);
}

function rank(part, plan, covered) {
  const right = covered > 0.999 ? 100 : 100 * covered ** 2 - 60;
  const coarse = part.exact ? 0 : Math.max(part.level - plan.level, 0);
  const fine = Math.max(plan.level - part.level, 0);
  return right - 3 * coarse - 4 * fine + (part.find === plan.find ? 1 : 0);
}

// The first of values[first..last) that is above `value`; they ascend.
function above(values, first, last, value) {
  while (first < last) {
    const half = (first + last) >> 1;
    if (values[half] > value) last = half; else first = half + 1;
  }
  return first;
}

function ranges(ids) {  // 0,1,2,5 -> 0-2,5
  const sorted = [...ids].sort((one, other) => one - other), words = [];
  for (let i = 0; i < sorted.length; i++) {
    const first = i;
    while (sorted[i + 1] === sorted[i] + 1) i += 1;
    words.push(first === i ? sorted[i] : sorted[first] + "-" + sorted[i]);
  }
  return words.join(",");
}
