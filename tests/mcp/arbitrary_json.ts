/** JSON as the other side may write it: values that no JavaScript value stands for, in any writing. */
import fc from "npm:fast-check@4.10.2";

const key = fc.oneof(
  fc.string({ unit: "binary" }).map((text) => JSON.stringify(text)),
  fc.constantFrom(`"__proto__"`, `"\\u0069d"`, `"id"`, `""`, `"a\\/b"`),
);

const texts = (hasKeysTwice: boolean) =>
  fc.letrec<{ text: string; object: string }>((tie) => ({
    text: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom("1e400", "-1E+400", "9007199254740993", "1.0", "-0.0", "1e-999", "0.1e1"),
      fc.constantFrom("true", "false", "null", "{ }", "[ ]", `"\\ud800"`, `"\\u2028\u2028"`),
      key,
      fc.array(tie("text"), { maxLength: 4 }).map((items) => `[${items.join(" , ")}]`),
      tie("object"),
    ),
    object: fc.uniqueArray(fc.tuple(key, tie("text")), {
      maxLength: 4,
      comparator: hasKeysTwice ? () => false : "IsStrictlyEqual",
      selector: ([key]) => JSON.parse(key),
    }).map((items) => `{${items.map(([key, value]) => `${key} : ${value}`).join(",\t")}}`),
  }));

/** Of a server, whose objects may have a key twice. */
export const jsonText: fc.Arbitrary<string> = texts(true).text;

/** Of a client, whose objects may not. */
export const plainJsonText: fc.Arbitrary<string> = texts(false).text;
export const plainObjectText: fc.Arbitrary<string> = texts(false).object;
