/**
 * Reads JSON of which nothing is to be lost: a number that a double does not hold, such as an id beyond 2^53, is
 * a raw JSON number, which `JSON.stringify` writes as it was written.
 *
 * @see https://github.com/tc39/proposal-json-parse-with-source
 * @throws {SyntaxError}
 */
export function parseExactly(text: string): unknown {
  return JSON_WITH_SOURCE.parse(
    text,
    (_, value, { source }) =>
      // Most are written as JavaScript writes them.
      typeof value === "number" && source !== String(value) &&
        decimal(source!) !== decimal(String(value))
        ? JSON_WITH_SOURCE.rawJSON(source!)
        : value,
  );
}

/** Whether a value is one of {@link parseExactly}'s raw numbers, which look like objects. */
export function isRawNumber(value: unknown): boolean {
  return JSON_WITH_SOURCE.isRawJSON(value);
}

/** What TypeScript's library does not know of yet. */
const JSON_WITH_SOURCE = JSON as unknown as {
  parse(
    text: string,
    reviver: (key: string, value: unknown, context: { source?: string }) => unknown,
  ): unknown;
  rawJSON(text: string): object;
  isRawJSON(value: unknown): boolean;
};

/** The same text for numbers that are the same, however they are written; null for what is none (Infinity). */
function decimal(text: string): string | null {
  const [, sign, whole, fraction = "", exponent = "0"] =
    /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]?\d+))?$/i.exec(text) ?? [];
  if (whole === undefined) return null;
  const digits = (whole + fraction).replace(/^0+/, "");
  // By hand: /0+$/ takes a time that grows with the square of a run of zeros.
  let end = digits.length;
  while (digits[end - 1] === "0") end--;
  const bare = digits.slice(0, end);
  const power = Number(exponent) - fraction.length + digits.length - bare.length;
  return bare === "" ? `${sign}0` : `${sign}${bare}e${power}`;
}
