// The event ids of ssebridge, version 1: where to read next, for every stream.
//
//   id     = "1" 1*( "~" stream ) "." check
//   stream = name "." incarnation "." place *( "-" place )
//   place  = offset [ "=" proof ]
//   check  = 4 characters: CRC-32 (IEEE) of all before them, modulo 36^4
//
// Numbers are in base 36; as they have up to 63 bits, they are BigInts here.

const CHECK = 4;
const MAX_BYTES = 4096;
const DIGITS = /^(0|[1-9a-z][0-9a-z]*)$/;
const NAME = /^[a-z][a-z0-9_-]*$/;
const MAX_INCARNATION = 2n ** 32n - 1n;
const MAX_OFFSET = 2n ** 63n - 1n;
const MAX_PROOF = 2n ** 62n;

// parseID reads an id. It returns {streams: [{name, incarnation, places: [{offset,
// proof}]}]}, where proof is null if there is none and incarnation stays in base
// 36, as people see it elsewhere; or {problem} with the reason in words.
export function parseID(text) {
  if (text === "") return { problem: "there is no id" };
  if (text.length > MAX_BYTES) return { problem: `longer than ${MAX_BYTES} bytes` };
  if (!/^[A-Za-z0-9._~,;=-]*$/.test(text)) return { problem: "has a character that no id has" };
  if (/^[^1]~/.test(text)) return { problem: "of another version than 1" };
  if (!text.startsWith("1~")) return { problem: "not an id of ssebridge" };
  const dot = text.length - CHECK - 1;
  if (text[dot] !== "." || checkOf(text.slice(0, dot + 1)) !== text.slice(dot + 1)) {
    return { problem: "its check characters do not fit: it was cut short or changed" };
  }
  const streams = [];
  for (const part of text.slice(2, dot).split("~")) {
    const stream = parsePart(part);
    if (stream === null || (streams.length > 0 && streams.at(-1).name >= stream.name)) return { problem: "not built like an id" };
    streams.push(stream);
  }
  return { streams };
}

function parsePart(text) {
  const [name, incarnation, places, ...more] = text.split(".");
  if (places === undefined || more.length > 0 || !NAME.test(name)) return null;
  if (number(incarnation, MAX_INCARNATION) === null) return null;
  const stream = { name, incarnation, places: [] };
  for (const place of places.split("-")) {
    const [offset, proof, ...rest] = place.split("=");
    const read = { offset: number(offset, MAX_OFFSET), proof: proof === undefined ? null : number(proof, MAX_PROOF) };
    if (rest.length > 0 || read.offset === null || (proof !== undefined && read.proof === null)) return null;
    stream.places.push(read);
  }
  return stream;
}

// number reads base 36 in the one way it is written; null if it is not that, or
// larger than most.
function number(text, most) {
  if (!DIGITS.test(text) || text.length > 13) return null;
  let value = 0n;
  for (const digit of text) value = value * 36n + BigInt(parseInt(digit, 36));
  return value > most ? null : value;
}

const table = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function checkOf(text) {
  let crc = 0xffffffff;
  for (let i = 0; i < text.length; i++) crc = table[(crc ^ text.charCodeAt(i)) & 0xff] ^ (crc >>> 8);
  return (((crc ^ 0xffffffff) >>> 0) % 36 ** CHECK).toString(36).padStart(CHECK, "0");
}

// moved tells what an event moved, which is what people want to see of a long
// id: the place of this id that differs from the one before, as {stream,
// partition, offset, proof}. offset is that of the record itself, one below the
// next to read. Without an id before, or if nothing moved, it is the place of the
// only partition of the only stream, else null. Both ids are as parseID returns.
export function moved(id, before) {
  if (id.streams === undefined) return null;
  let found = null;
  for (const stream of id.streams) {
    const old = before?.streams?.find((other) => other.name === stream.name && other.incarnation === stream.incarnation);
    for (const [partition, place] of stream.places.entries()) {
      if (old !== undefined && old.places[partition]?.offset === place.offset) continue;
      if (found !== null) return null;
      found = { stream: stream.name, partition, offset: place.offset - 1n, proof: place.proof };
    }
  }
  return found;
}
