/** JSON as a person writes it, with the place of a mistake: engines tell it for some mistakes alone. */
import { parseExactly } from "../models/exact_json.ts";

const TOKEN =
  // deno-lint-ignore no-control-regex
  /[ \t\n\r]*(?:([{}[\],:])|("(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*")|(-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.])|(?:true|false|null)(?!\w)))/y;

/** Numbers stay as they are written. @throws {SyntaxError} "Line 2, column 5: …" where the text is no JSON */
export function parseJson(text: string): unknown {
  try {
    return parseExactly(text);
  } catch {
    const { at, expected } = mistakeIn(text);
    const before = text.slice(0, at).split("\n");
    throw new SyntaxError(
      `Line ${before.length}, column ${before.at(-1)!.length + 1}: ${expected}`,
    );
  }
}

/** A number with all of its digits, which a double may not hold. @param value the number that the text is */
export function numberAsWritten(text: string, value: number): unknown {
  // JSON has no plus sign, no bare point and no zeros in front.
  const bare = text.trim().replace(/^\+/, "").replace(/^(-?)0+(?=\d)/, "$1")
    .replace(/^(-?)\./, "$10.").replace(/\.(?!\d)/, "");
  try {
    return parseExactly(bare);
  } catch {
    return value;
  }
}

type Wanted = "value" | "first item" | "first name" | "name" | "colon" | "next";

const EXPECTED: Record<Wanted, string> = {
  value: "a value is expected",
  "first item": "a value or ] is expected",
  "first name": "a name in double quotes or } is expected",
  name: "a name in double quotes is expected",
  colon: "a colon is expected",
  next: "a comma or the closing bracket is expected",
};

function mistakeIn(text: string): { at: number; expected: string } {
  const open: string[] = [];
  let wanted: Wanted = "value", at = 0;
  for (;;) {
    TOKEN.lastIndex = at;
    const token = TOKEN.exec(text);
    const [whole = "", sign, string, other] = token ?? [];
    const start = token
      ? at + whole.length - (sign ?? string ?? other).length
      : at + /^[ \t\n\r]*/.exec(text.slice(at))![0].length;
    const wrong = (expected: string = EXPECTED[wanted]) => ({
      at: start,
      expected: start >= text.length
        ? `the text ends where ${expected}`
        : text[start] === '"' && !token
        ? "this text does not end, or holds what must be written as an escape"
        : expected,
    });
    if (wanted === "next" && open.length === 0) return wrong("nothing more is expected");
    if (!token) return wrong();
    const isValue = wanted === "value" || wanted === "first item";
    if (isValue && (string !== undefined || other !== undefined)) wanted = "next";
    else if (isValue && (sign === "{" || sign === "[")) {
      open.push(sign);
      wanted = sign === "{" ? "first name" : "first item";
    } else if ((wanted === "first name" || wanted === "name") && string !== undefined) {
      wanted = "colon";
    } else if (wanted === "colon" && sign === ":") wanted = "value";
    else if (wanted === "next" && sign === ",") wanted = open.at(-1) === "{" ? "name" : "value";
    else if (
      sign === "}" && open.at(-1) === "{" && (wanted === "next" || wanted === "first name") ||
      sign === "]" && open.at(-1) === "[" && (wanted === "next" || wanted === "first item")
    ) {
      open.pop();
      wanted = "next";
    } else return wrong();
    at += whole.length;
  }
}
