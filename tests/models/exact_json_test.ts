import assert from "node:assert/strict";
import { isRawNumber, parseExactly } from "../../models/exact_json.ts";

Deno.test("parseExactly keeps what a double does not hold as it is written, and nothing else", () => {
  for (
    const text of [
      "9007199254740993",
      "0.10000000000000000001",
      "1e-9999",
      "-12345678901234567890.5",
      `1${"0".repeat(30)}1`,
    ]
  ) {
    const value = parseExactly(text);
    assert.ok(isRawNumber(value), text);
    assert.equal(JSON.stringify(value), text);
  }
  for (const text of ["1.0", "1e2", "100", "0.1", "1E+2", "9007199254740992", "0.00"]) {
    assert.equal(parseExactly(text), JSON.parse(text), text);
  }
});

Deno.test("a number of millions of digits is read about as fast as any text", () => {
  // Anybody's: a time that grew with the square of its zeros would be hours here.
  const text = `[1${"0".repeat(4_000_000)}1]`;
  assert.equal(JSON.stringify(parseExactly(text)), text);
});
