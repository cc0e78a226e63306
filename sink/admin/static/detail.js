// The panel that shows one event whole.

import { parseID } from "./eventid.js";
import { detailOf } from "./event.js";
import { prettyJSON, isJSON } from "./json.js";
import { element, size, span } from "./words.js";

// showDetail fills the panel. do has onResume, onCopy(text, what), onCode and
// onClose.
export function showDetail(panel, row, does) {
  const detail = detailOf(row);
  const close = button("", does.onClose, "icon");
  close.setAttribute("aria-label", "Close (Esc)");
  close.append(cross());
  const title = element("h2", "", row.subject || row.stream || row.name);
  title.title = title.textContent;
  const header = element("header", "", title, element("span", "dim", row.name), close);

  const choices = element("div", "choices");
  const resume = button("Resume from here", does.onResume, row.control ? "" : "primary");
  resume.id = "resume-here";
  resume.disabled = row.id === "";
  resume.title = row.id === "" ? "The event has no id" : "Connect with this event's id: what lies behind it is read anew (r)";
  choices.append(
    resume,
    button("Copy data", () => does.onCopy(detail.payload, "Data")),
    button("Copy id", () => does.onCopy(row.id, "Event id")),
    button("Code", does.onCode),
  );

  const facts = element("dl", "facts");
  const fact = (name, text) => text !== "" && facts.append(element("dt", "", name), element("dd", "", text));
  if (row.subject !== "") fact("subject", row.subject);
  fact("stream", row.stream);
  fact("event", row.name);
  if (row.offset !== null) fact("place", `partition ${row.partition}, offset ${row.offset}`);
  if (row.time !== null) fact("recorded", new Date(row.time).toISOString());
  fact("arrived", `${new Date(row.at).toISOString()}`);
  if (row.time !== null) fact("lag", span(row.at - row.time) + (row.at < row.time ? " (the clocks differ)" : ""));
  fact("size", row.bytes < 1000 ? `${row.bytes} bytes as sent` : `${size(row.bytes)} as sent (${row.bytes.toLocaleString("en")} bytes)`);
  for (const [name, text] of detail.fields) {
    if (!["stream", "subject", "partition", "offset", "time"].includes(name)) fact(name, text === "null" ? "none" : plain(text));
  }

  const parts = [header, choices];
  const payload = prettyJSON(detail.payload);
  payload.id = "payload";
  payload.tabIndex = 0;
  payload.setAttribute("aria-label", "Payload");
  const kind = detail.encoding === "base64" ? "base64" : isJSON(detail.payload) ? "JSON" : "text";
  parts.push(part(`${row.control ? "Data" : "Payload"}, ${kind}`, payload));
  parts.push(part(row.control ? "Event" : "Record", facts));
  if (detail.headers !== null && detail.headers.size > 0) parts.push(part("Headers", headersTable(detail.headers)));
  parts.push(part("Event id", ...idParts(row.id)));
  panel.replaceChildren(...parts);
  panel.scrollTop = 0;
  panel.dataset.n = row.n;
}

function part(title, ...content) {
  const made = element("section", "");
  if (title !== "") made.append(element("h3", "", title));
  made.append(...content);
  return made;
}

function button(text, press, className = "") {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", press);
  return made;
}

function cross() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 20 20");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", "m5 5 10 10M15 5 5 15");
  svg.append(path);
  return svg;
}

// plain shows a JSON string without its quotes, and everything else as written.
function plain(text) {
  if (text[0] !== '"') return text;
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function headersTable(headers) {
  const table = element("tbody", "");
  for (const [name, values] of headers) {
    for (const value of Array.isArray(values) ? values : [values]) {
      const title = element("th", "", name);
      title.scope = "row";
      table.append(element("tr", "", title, element("td", "", typeof value === "string" ? value : JSON.stringify(value))));
    }
  }
  return element("div", "scroll", element("table", "", table));
}

function idParts(id) {
  if (id === "") return [element("p", "dim", "None: a client that is cut off here goes on from an earlier one, or from the start.")];
  const read = parseID(id);
  const code = element("code", "", id);
  code.id = "id-text";
  if (read.problem) return [code, element("p", "dim", `Not decoded: ${read.problem}.`)];
  const head = element("tr", "", ...["stream", "incarnation", "next", "proof"].map((name) => {
    const cell = element("th", "", name);
    cell.scope = "col";
    return cell;
  }));
  const rows = element("tbody", "");
  for (const { name, incarnation, places } of read.streams) {
    for (const [partition, { offset, proof }] of places.entries()) {
      rows.append(element("tr", "", element("td", "", name), element("td", "", incarnation), element("td", "", `${partition}:${offset}`), element("td", "", proofText(proof))));
    }
  }
  const table = element("table", "", element("thead", "", head), rows);
  table.id = "id-decoded";
  return [code, element("div", "scroll", table)];
}

// proofText shows JetStream's proofs, which are times, as such.
function proofText(proof) {
  if (proof === null) return "none";
  const time = Number(proof);
  if (time > Date.UTC(2015, 0) && time < Date.UTC(2200, 0)) return new Date(time).toISOString().slice(0, -1).replace("T", " "); // UTC, with a blank where a line may end
  return String(proof);
}
