// The order of groups and lanes, what is folded and pinned, and where that puts each row.
const HEADING = 26, TRACK_GAP = 3, GROUP_GAP = 6;  // px
const HEIGHTS = { ledger: 42, counter: 36, events: 21, findings: 18, iterations: 20 };
const DEEPER = 17;  // a further level of the same track
const STORE = "whyslow timeline ";

// What the reader arranged, remembered for recordings of the same shape.
class Arrangement {
  constructor(layout, place) {
    this.groups = layout.groups.map((group) => group.id);
    this.key = STORE + place + " " + digestOf(this.groups);
    const kept = this.read();
    const known = new Set(this.groups);
    const order = (kept.order || []).filter((id) => known.has(id));
    const placed = new Set(order);
    this.order = [...order, ...this.groups.filter((id) => !placed.has(id))];
    this.open = new Map(layout.groups.map((group) => [group.id, group.open]));
    for (const [id, open] of Object.entries(kept.open || {})) if (known.has(id)) this.open.set(id, open);
    this.pinned = new Set(kept.pinned || []);
  }

  read() {
    try { return JSON.parse(localStorage.getItem(this.key)) || {}; } catch { return {}; }
  }

  save() {
    try {
      localStorage.setItem(this.key, JSON.stringify({
        order: this.order, open: Object.fromEntries(this.open), pinned: [...this.pinned],
      }));
    } catch { /* a private window keeps nothing */ }
  }

  toggle(id) {
    this.open.set(id, !this.open.get(id));
    this.save();
  }

  pin(track) {
    if (!this.pinned.delete(track)) this.pinned.add(track);
    this.save();
  }

  // Put a group before the one that is at `place` now.
  move(id, place) {
    const from = this.order.indexOf(id);
    this.order.splice(from, 1);
    this.order.splice(clamp(place > from ? place - 1 : place, 0, this.order.length), 0, id);
    this.save();
  }
}

// Rows from top to bottom: { heading | lane, group, y, h }. The first row of a track carries the
// height of the whole track, for its label.
function rowsOf(layout, arrangement) {
  const list = [], pinned = [], byLane = new Map();
  const groups = new Map(layout.groups.map((group) => [group.id, group]));
  let y = 0, pinnedY = 0;
  for (const id of arrangement.order) {
    const group = groups.get(id), open = arrangement.open.get(id);
    if (list.length) y += GROUP_GAP;
    list.push({ heading: true, group, open, summary: open ? null : group.lanes[0], y, h: HEADING });
    y += HEADING + (open ? 2 : 0);
    for (const track of tracksOf(layout, group)) {
      if (arrangement.pinned.has(track.key)) {
        pinnedY = place(layout, group, track, pinned, pinnedY, true);
      }
      if (!open) continue;
      const first = list.length;
      y = place(layout, group, track, list, y, arrangement.pinned.has(track.key));
      for (let i = first; i < list.length; i++) byLane.set(list[i].lane, list[i]);
    }
  }
  return { list, pinned, byLane, height: y + 4, pinnedHeight: pinnedY };
}

function place(layout, group, track, rows, y, pinned) {
  const first = rows.length;
  for (const lane of track.lanes) {
    const h = lane === track.lanes[0] ? HEIGHTS[layout.lanes[lane].kind] || HEIGHTS.events : DEEPER;
    rows.push({ lane, group, y, h, info: layout.lanes[lane] });
    y += h;
  }
  Object.assign(rows[first], { track: track.key, trackHeight: y - rows[first].y, isPinned: pinned });
  for (let i = first; i < rows.length; i++) {
    rows[i].head = rows[first];
    rows[i].deeper = i + 1 < rows.length;
  }
  return y + TRACK_GAP;
}

// A lane and the deeper levels under it are one track, with one name that outlives the numbers.
function tracksOf(layout, group) {
  if (group.tracks) return group.tracks;
  group.tracks = [];
  for (const lane of group.lanes) {
    const { label, level } = layout.lanes[lane];
    if (level > 0 && group.tracks.length) group.tracks.at(-1).lanes.push(lane);
    else group.tracks.push({ key: `${group.id}/${group.tracks.length}/${label}`, lanes: [lane] });
  }
  return group.tracks;
}

// The rows that overlap [top, bottom), which are in order.
function between(rows, top, bottom) {
  let low = 0, high = rows.length;
  while (low < high) {
    const half = (low + high) >> 1;
    if (rows[half].y + rows[half].h > top) high = half; else low = half + 1;
  }
  let last = low;
  while (last < rows.length && rows[last].y < bottom) last += 1;
  return rows.slice(low, last);
}

function digestOf(words) {
  let code = 0x811c9dc5;
  for (const word of words) {
    for (let i = 0; i < word.length; i++) code = Math.imul(code ^ word.charCodeAt(i), 0x01000193);
    code = Math.imul(code ^ 10, 0x01000193);
  }
  return (code >>> 0).toString(36) + "." + words.length;
}
