// Answers for the Go tests beside it by the inspector's own code: a line of JSON
// in, {"parse": [pieces in base64]}, {"id": text} or {"moved": [id, before]}; a line
// out.

import { createInterface } from "node:readline";
import { moved, parseID } from "./eventid.js";
import { Parser } from "./sse.js";

function parse(pieces) {
  const told = { events: [], comments: 0, retry: 0, lastID: "" };
  const parser = new Parser({
    onEvent: ({ name, data, id }) => told.events.push({ Type: name, Data: data, ID: id }),
    onComment: () => told.comments++,
    onRetry: (ms) => (told.retry = ms),
  });
  for (const piece of pieces) parser.feed(Buffer.from(piece, "base64"));
  told.lastID = parser.lastID;
  return told;
}

const asText = (_, value) => (typeof value === "bigint" ? String(value) : value);

for await (const line of createInterface({ input: process.stdin })) {
  const asked = JSON.parse(line);
  let answer;
  if (asked.parse) answer = parse(asked.parse);
  else if (asked.moved) answer = moved(...asked.moved.map(parseID));
  else answer = parseID(asked.id);
  console.log(JSON.stringify(answer, asText));
}
