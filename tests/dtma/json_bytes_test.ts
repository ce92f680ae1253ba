import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { keyAt, type OnMember, scanJson, skimJson } from "../../dtma/json_bytes.ts";
import { objectMembers } from "../../dtma/json_text.ts";
import { jsonText } from "../mcp/arbitrary_json.ts";

const encode = (text: string) => new TextEncoder().encode(text);
const SCANS = { scanJson, skimJson };

/** The members that a scan tells of at a depth, by key; null of what it does not take. */
function membersBy(
  scan: (bytes: Uint8Array, deepest: number, onMember: OnMember) => boolean,
  bytes: Uint8Array,
  wanted = 1,
): Map<string, string> | null {
  const members = new Map<string, string>();
  const isTaken = scan(bytes, wanted, (depth, keyStart, keyEnd, start, end) => {
    if (depth !== wanted) return;
    members.set(
      keyAt(bytes, keyStart, keyEnd),
      new TextDecoder().decode(bytes.subarray(start, end)),
    );
  });
  return isTaken ? members : null;
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Strings that are long, and full of what a search for their end may stumble upon. */
const longString = fc.array(
  fc.oneof(
    fc.constantFrom(
      `\\"`,
      "\\\\",
      "\\\\\\\\",
      `\\\\\\"`,
      "\\u00e9",
      "\\ud83e",
      "é",
      "漢",
      "🙂",
      "\u2028",
    ),
    fc.nat({ max: 3000 }).map((length) => "x".repeat(length)),
  ),
  { maxLength: 40 },
).map((parts) => `"${parts.join("")}"`);

const anyText = fc.oneof(
  jsonText,
  longString,
  fc.tuple(jsonText, longString, longString, jsonText).map(([a, b, c, d]) =>
    ` {"a":${a},${b}:[${c} , ${d}],"d" : {"e":${c}}}\r\n`
  ),
);

Deno.test("scanJson takes what JSON.parse takes, and nothing else", () => {
  const broken = fc.tuple(
    anyText,
    fc.nat(),
    fc.nat({ max: 2 }),
    fc.constantFrom(
      "",
      `"`,
      "\\",
      "{",
      "}",
      "[",
      "]",
      ",",
      ":",
      "0",
      "-",
      ".",
      "e",
      "\t",
      "\u0001",
      "tru",
    ),
  ).map(([text, place, removed, put]) => {
    const at = place % (text.length + 1);
    return text.slice(0, at) + put + text.slice(at + removed);
  });
  fc.assert(
    fc.property(fc.oneof(anyText, broken), (text) => {
      // Half of a pair is no UTF-8, and comes to nothing else.
      const bytes = encode(text.toWellFormed());
      assert.equal(membersBy(scanJson, bytes) !== null, isJson(text.toWellFormed()), text);
      if (isJson(text)) assert(membersBy(skimJson, bytes) !== null, text);
    }),
    { numRuns: 3000 },
  );
});

Deno.test("scanJson and skimJson tell of the members that there are", () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const expected = objectMembers(text);
      for (const [name, scan] of Object.entries(SCANS)) {
        assert.deepEqual(membersBy(scan, encode(text.toWellFormed())), expected, name);
      }
    }),
    { numRuns: 1000 },
  );
  for (const scan of Object.values(SCANS)) {
    const inner = membersBy(scan, encode(`{"a":{"b":1,"c":{"d":2}},"e":[{"f":3}]}`), 2);
    assert.deepEqual(Object.fromEntries(inner!), { b: "1", c: `{"d":2}` });
  }
});

Deno.test("skimJson takes nothing that reaches beyond itself in what it is put into", () => {
  const pieces = fc.array(
    fc.constantFrom(
      "{",
      "}",
      "[",
      "]",
      ",",
      ":",
      `"`,
      "\\",
      `"a"`,
      "1",
      " ",
      `"id":2`,
      "x".repeat(70),
    ),
    { maxLength: 12 },
  ).map((parts) => `{${parts.join("")}}`);
  let taken = 0;
  fc.assert(
    fc.property(pieces, (text) => {
      if (!skimJson(encode(text), 1, () => {})) return;
      taken++;
      const around = `{"id":1,"result":${text}}`;
      if (!isJson(around)) return;
      assert(isJson(text), text);
      assert.deepEqual(JSON.parse(around), { id: 1, result: JSON.parse(text) });
    }),
    { numRuns: 20_000 },
  );
  assert(taken > 10);
});

Deno.test("scanJson and skimJson take 64 levels and no more", () => {
  for (const scan of Object.values(SCANS)) {
    for (const [open, close] of [["[", "]"], [`{"a":`, "}"]]) {
      const nested = (depth: number) => encode(`${open.repeat(depth)}1${close.repeat(depth)}`);
      assert.equal(scan(nested(64), 1, () => {}), true);
      assert.equal(scan(nested(65), 1, () => {}), false);
      assert.equal(scan(nested(1_000_000), 1, () => {}), false);
    }
  }
});

Deno.test("scanJson reads from any place in a buffer and not beyond it", () => {
  const buffer = encode(`xx{"a":"bc"}yy`);
  for (const scan of Object.values(SCANS)) {
    assert.deepEqual([...membersBy(scan, buffer.subarray(2, -2))!], [["a", `"bc"`]]);
    for (let end = 3; end < buffer.length - 2; end++) {
      assert.equal(membersBy(scan, buffer.subarray(2, end)), null);
    }
  }
});
