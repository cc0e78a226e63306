// What the page knows of an event: as much as its row needs at once, the rest when
// somebody looks.

import { moved, parseID } from "./eventid.js";
import { members } from "./json.js";

// The bridge's own events; delete and binary are records.
export const CONTROL = new Set(["connected", "caught-up", "position", "gap", "reset", "closing", "expiring", "snapshot-end"]);

// The beginning of an envelope, as ssebridge writes it. What is quoted in it may
// hold no quote that is not escaped, so the pieces cannot be mistaken.
const STRING = '"[^"\\\\]*(?:\\\\.[^"\\\\]*)*"'; // runs over many characters at a time, or long ones take too much stack
const ENVELOPE = new RegExp(`^\\{"stream":(${STRING}),"subject":(${STRING}),"partition":(\\d+),"offset":(\\d+),"time":(null|${STRING})`);
const PAYLOAD = /,"encoding":"(json|text|base64)","data":\n?/;

// makeRow turns an event of a Connection into a row of the Store. before is the
// event id in front of it.
//
//   {n, at, name, data, id, before, bytes, cost, control,
//    stream, subject, partition, offset, time, preview}
export function makeRow(event, before) {
  const row = {
    n: 0,
    at: event.at,
    name: event.name,
    data: event.data,
    id: event.id,
    before,
    bytes: event.bytes,
    cost: 2 * (event.data.length + event.id.length) + 400, // bytes that it takes here, more or less
    control: CONTROL.has(event.name),
    stream: "",
    subject: "",
    partition: null,
    offset: null,
    time: null, // ms, when the record was made
    preview: null,
  };
  const match = row.control ? null : ENVELOPE.exec(event.data);
  if (match !== null) {
    row.stream = unquoted(match[1]);
    row.subject = unquoted(match[2]);
    row.partition = match[3];
    row.offset = match[4];
    const time = match[5] === "null" ? NaN : Date.parse(unquoted(match[5]));
    row.time = Number.isNaN(time) ? null : time;
  } else if (event.name === "gap" || event.name === "reset") {
    const told = parsed(event.data);
    row.stream = String(told?.stream ?? "");
  } else if (!row.control) {
    row.stream = streamOf(event.id, before);
    if (event.name === "delete") row.subject = String(parsed(event.data)?.subject ?? "");
  }
  return row;
}

// streamOf says which stream an event is of, by what it moved in the id.
function streamOf(id, before) {
  const second = id.indexOf("~", 2);
  if (second < 0) return /^1~([a-z][a-z0-9_-]*)\./.exec(id)?.[1] ?? ""; // there is only one
  return moved(parseID(id), parseID(before))?.stream ?? "";
}

// complete adds what only shown rows need: the place by the id where there is no
// envelope, and the time by the proof. timed says whether a stream's proofs are
// times, as JetStream's are.
export function complete(row, timed) {
  if (row.preview !== null) return row;
  row.preview = previewOf(row);
  if (!row.control && row.offset === null && row.id !== "") {
    const step = moved(parseID(row.id), parseID(row.before));
    if (step !== null) {
      row.partition = String(step.partition);
      row.offset = String(step.offset);
      if (row.time === null && step.proof !== null && timed(step.stream)) row.time = Number(step.proof);
    }
  }
  return row;
}

// A RowEvent tells programs of a row, as its detail, which is completed only when
// one asks for it: 1,000 rows a second come, and a page of them is shown.
export class RowEvent extends Event {
  #row;
  #timed;

  constructor(row, timed) {
    super("inspector-event");
    this.#row = row;
    this.#timed = timed;
  }

  get detail() {
    return complete(this.#row, this.#timed);
  }
}

const PREVIEW = 400; // characters, more than any screen shows of a row

function previewOf(row) {
  const { data } = row;
  if (row.control) return sentence(row) ?? data.slice(0, PREVIEW);
  const payload = row.offset === null ? null : PAYLOAD.exec(data);
  if (payload === null) return data.slice(0, PREVIEW);
  const from = payload.index + payload[0].length;
  return data.slice(from, Math.min(from + PREVIEW, data.length - 1)).replace(/\s+/g, " ");
}

// sentence says one of the bridge's own events in words; null if it cannot.
function sentence({ name, data }) {
  const told = parsed(data);
  if (told === null || typeof told !== "object") return null;
  const where = told.partition === null || told.partition === undefined ? "" : ` partition ${told.partition}`;
  switch (name) {
    case "connected": {
      const streams = Object.entries(told.streams ?? {}).map(([stream, verdict]) => `${stream} ${verdict}`);
      return `resume ${told.resume}${streams.length > 0 ? ` (${streams.join(", ")})` : ""}, heartbeat every ${told.heartbeat} s`;
    }
    case "gap": {
      const range = told.from === null ? "records" : told.to === null ? `records from ${told.from}` : told.from === told.to ? `record ${told.from}` : `records ${told.from} to ${told.to}`;
      return `${told.stream ?? "the stream"}${where}: ${range} cannot be had (${told.reason})${told.next === null ? "" : `, goes on at ${told.next}`}`;
    }
    case "reset":
      return `${told.stream ?? "the streams"}${where}: the history is another one (${told.reason})${told.next === null ? "" : `, goes on at ${told.next}`}`;
    case "closing":
      return `the server ends the connection: ${told.reason}`;
    case "caught-up":
      return "all history is delivered, from here on events are live";
    case "position":
      return "the position moved past records that the subjects leave out";
  }
  return null;
}

// detailOf reads an event for the panel that shows it whole: {fields: [[name,
// text]], headers: Map or null, payload, encoding}.
export function detailOf(row) {
  const envelope = row.control || row.subject === "" || row.offset === null ? null : members(row.data);
  if (envelope === null || !envelope.has("subject")) return { fields: [], headers: null, payload: row.data, encoding: row.name === "binary" ? "base64" : "" };
  const fields = [];
  let headers = null;
  let payload = "";
  let encoding = "json";
  for (const [name, text] of envelope) {
    if (name === "headers") headers = new Map([...(members(text) ?? [])].map(([header, values]) => [header, parsed(values) ?? []]));
    else if (name === "encoding") encoding = String(parsed(text));
    else if (name === "data") payload = text;
    else fields.push([name, text]);
  }
  if (encoding !== "json") payload = String(parsed(payload) ?? "");
  return { fields, headers, payload, encoding };
}

function unquoted(text) {
  return text.includes("\\") ? JSON.parse(text) : text.slice(1, -1);
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
