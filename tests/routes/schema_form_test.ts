import assert from "node:assert/strict";
import { Ajv2020 } from "npm:ajv@8.20.0/dist/2020.js";
import fc from "npm:fast-check@4.10.2";
import { Invalid } from "../../models/errors.ts";
import { parseJson } from "../../routes/json_text.ts";
import {
  argumentsOf,
  changed,
  filledForm,
  formFor,
  valueOf,
  type Values,
} from "../../routes/schema_form.ts";
import type { FormPart } from "../../views/schema_fields.tsx";

type Schema = Record<string, unknown>;
const object = (properties: Record<string, unknown>, more: Schema = {}) => ({
  type: "object",
  properties,
  ...more,
});

function read(schema: unknown, values: Values): unknown {
  const form = formFor(schema, values);
  return argumentsOf(form.part, form.values);
}

function mistakes(schema: unknown, values: Values): Record<string, string> {
  try {
    read(schema, values);
  } catch (error) {
    if (error instanceof Invalid) return error.fields;
    throw error;
  }
  assert.fail("It holds");
}

/** All parts of a form, for who types into each. */
function partsOf(part: FormPart): FormPart[] {
  switch (part.kind) {
    case "object":
      return [
        part,
        ...part.members.flatMap(partsOf),
        ...(part.rows ?? []).flatMap((row) => partsOf(row.part)),
      ];
    case "list":
      return [part, ...part.rows.flatMap((row) => partsOf(row.part))];
    case "alternatives":
      return [part, ...partsOf(part.part)];
    default:
      return [part];
  }
}

Deno.test("a form holds nested objects, lists, choices, constants and what is null", () => {
  const schema = object({
    where: object({ city: { type: "string" }, zip: { type: "integer" } }, { required: ["city"] }),
    tags: { type: "array", items: { type: "string" } },
    level: { enum: ["low", "high"] },
    size: { enum: [1, 2, null] },
    kind: { const: "fixed" },
    note: { type: ["string", "null"] },
    days: { type: "array", items: { enum: ["mo", "tu", "we"] } },
  }, { required: ["where", "tags", "kind"] });
  assert.deepEqual(
    read(schema, {
      "arg.where.city": "Bern",
      "arg.where.zip": "3000",
      "arg.tags#rows": "0,2",
      "arg.tags.0": "a",
      "arg.tags.2": "c",
      "arg.level": "high",
      "arg.size": "null",
      "arg.note#null": "true",
      "arg.days.0": "true",
      "arg.days.1": "false",
      "arg.days.2": "true",
    }),
    {
      where: { city: "Bern", zip: 3000 },
      tags: ["a", "c"],
      level: "high",
      size: null,
      kind: "fixed",
      note: null,
      days: ["mo", "we"],
    },
  );
});

Deno.test("what nobody filled in is left out, and a default that nobody changed is not filled in", () => {
  const schema = object({
    filter: object(
      { field: { type: "string", minLength: 1 }, op: { enum: ["eq"], default: "eq" } },
      {
        required: ["field"],
      },
    ),
    isDry: { type: "boolean" },
    limit: { type: "integer", default: 10 },
  });
  const { part, values } = formFor(schema, {});
  assert.equal(values["arg.limit"], "10");
  assert.deepEqual(argumentsOf(part, values), { limit: 10 });
  assert.deepEqual(mistakes(schema, { "arg.filter.op": "x" }), {
    "arg.filter.field": "field is needed",
    "arg.filter.op": "op must be one of the choices",
  });
});

Deno.test("an argument that is null by default is left out, and what is typed there is sent", () => {
  // As FastMCP and pydantic write an optional argument.
  const optional = (type: string) => ({ anyOf: [{ type }, { type: "null" }], default: null });
  const schema = object({ name: optional("string"), page: optional("integer") });
  const { part, values } = formFor(schema, {});
  assert.deepEqual(partsOf(part).map(({ initial }) => initial), [undefined, undefined, undefined]);
  assert.deepEqual({ ...values }, {});
  assert.deepEqual(read(schema, {}), {});
  assert.deepEqual(read(schema, { "arg.name": "Ann", "arg.page": "2" }), { name: "Ann", page: 2 });
  const both = { "arg.name": "Ann", "arg.name#null": "true" };
  assert.match(mistakes(schema, both)["arg.name"], /name is filled in, and ticked to be null/);
  const again = filledForm(schema, { name: null });
  assert.equal(again.values["arg.name#null"], "true");
  assert.deepEqual(argumentsOf(again.part, again.values), { name: null });
  assert.deepEqual(read({ ...schema, required: ["name"] }, {}), { name: null });
});

Deno.test("an empty text among the choices can be chosen, and none as well", () => {
  const schema = object({ sort: { enum: ["", "asc"] } });
  const sort = (more: Schema) => {
    const [, part] = partsOf(formFor({ ...schema, ...more }, {}).part);
    assert.ok(part.kind === "choice");
    return part.choices.map(({ text, title }) => [text, title]);
  };
  assert.deepEqual(sort({}), [['""', '""'], ['"asc"', "asc"]]);
  assert.deepEqual(read(schema, { "arg.sort": '""' }), { sort: "" });
  assert.deepEqual(read(schema, { "arg.sort": '"asc"' }), { sort: "asc" });
  assert.deepEqual(read(schema, { "arg.sort": "" }), {});
});

Deno.test("no property of a wide schema is left away", () => {
  const wide = (count: number) =>
    object(Object.fromEntries(
      Array.from({ length: count }, (_, index) => [`p${index}`, { type: "string" }]),
    ));
  assert.deepEqual(read(wide(150), { "arg.p149": "x" }), { p149: "x" });
  assert.equal(formFor(wide(10_000), {}).part.kind, "json");
});

Deno.test("references are followed, allOf is merged, and an alternative is chosen", () => {
  const schema = {
    $defs: {
      node: object({
        name: { type: "string" },
        kids: { type: "array", items: { $ref: "#/$defs/node" } },
      }, {
        required: ["name"],
      }),
      named: object({ name: { type: "string" } }, { required: ["name"] }),
      chain: object({ next: { $ref: "#/$defs/chain" } }),
    },
    type: "object",
    properties: {
      tree: { $ref: "#/$defs/node" },
      both: { allOf: [{ $ref: "#/$defs/named" }, object({ age: { type: "integer" } })] },
      shape: {
        oneOf: [
          object({ type: { const: "circle" }, r: { type: "number" } }, { required: ["type", "r"] }),
          object({ type: { const: "square" }, a: { type: "number" } }, { required: ["type", "a"] }),
        ],
      },
      chain: { $ref: "#/$defs/chain" },
      far: { $ref: "https://example.com/schema" },
    },
    required: ["tree", "both", "shape"],
  };
  const values = {
    "arg.tree.name": "root",
    "arg.tree.kids#rows": "0",
    "arg.tree.kids.0.name": "leaf",
    "arg.both.name": "Ann",
    "arg.both.age": "4",
    "arg.shape#choice": "1",
    "arg.shape.a": "2.5",
    "arg.chain.next": '{"next": {}}',
    "arg.far": "[1]",
  };
  assert.deepEqual(read(schema, values), {
    tree: { name: "root", kids: [{ name: "leaf" }] },
    both: { name: "Ann", age: 4 },
    shape: { type: "square", a: 2.5 },
    chain: { next: { next: {} } },
    far: [1],
  });
});

Deno.test("properties of any name are rows, which two of one name are refused", () => {
  const schema = object({
    env: { type: "object", additionalProperties: { type: "string" } },
  });
  const values = {
    "arg.env#rows": "0,1",
    "arg.env#key.0": "__proto__",
    "arg.env#value.0": "x",
    "arg.env#key.1": "B",
    "arg.env#value.1": "",
  };
  assert.equal(JSON.stringify(read(schema, values)), '{"env":{"__proto__":"x","B":""}}');
  const twice = mistakes(schema, { ...values, "arg.env#key.1": "__proto__" });
  assert.match(twice["arg.env#key.1"], /another property/);
});

Deno.test("numbers are sent as they are written, however long they are", () => {
  const schema = object({ any: {}, id: { type: "integer" }, x: { type: "number" } });
  const sent = (values: Values) => JSON.stringify(read(schema, values));
  const written = '{"any":[12345678901234567890,0.1000000000000000055,1e400,-9007199254740993]}';
  assert.equal(sent({ raw: written }), written);
  assert.equal(sent({ "arg.any": "12345678901234567890" }), '{"any":12345678901234567890}');
  assert.deepEqual(read(schema, { raw: '{"any":[1.0,1e3,-0.50,9007199254740992]}' }), {
    any: [1, 1000, -0.5, 9007199254740992],
  });
  assert.match(mistakes(schema, { raw: "12345678901234567890" }).raw, /Write a JSON object/);
  const filled = filledForm(schema, read(schema, { raw: '{"id":9007199254740993}' }));
  assert.equal(filled.values["arg.id"], "9007199254740993");
  assert.equal(JSON.stringify(argumentsOf(filled.part, filled.values)), '{"id":9007199254740993}');
  for (
    const [typed, x] of [
      ["0.12345678901234567890", "0.12345678901234567890"],
      [" +0012345678901234567891 ", "12345678901234567891"],
      ["-.1234567890123456789", "-0.1234567890123456789"],
      ["12345678901234567891.", "12345678901234567891"],
      ["1e3", "1000"],
    ]
  ) assert.equal(sent({ "arg.x": typed }), `{"x":${x}}`);
});

Deno.test("what does not hold is told where it stands", () => {
  const schema = object({
    n: { type: "integer", minimum: 2, maximum: 9, multipleOf: 2 },
    mail: { type: "string", format: "email" },
    on: { type: "string", format: "date" },
    list: { type: "array", items: { type: "number" }, minItems: 2, uniqueItems: true },
    blob: { type: "string", contentEncoding: "base64" },
    any: {},
  }, { required: ["n"] });
  assert.match(mistakes(schema, {})["arg.n"], /needed/);
  assert.match(mistakes(schema, { "arg.n": "1" })["arg.n"], /at least 2/);
  assert.match(mistakes(schema, { "arg.n": "3.5" })["arg.n"], /whole/);
  assert.match(mistakes(schema, { "arg.n": "3" })["arg.n"], /multiple/);
  const price = object({ price: { type: "number", multipleOf: 0.01 } });
  assert.deepEqual(read(price, { "arg.price": "297332496.9" }), { price: 297332496.9 });
  assert.match(mistakes(price, { "arg.price": "297332496.905" })["arg.price"], /multiple/);
  const id = object({ id: { type: "integer" } });
  assert.deepEqual(read(id, { "arg.id": "9007199254740993000" }), { id: 9007199254740993000 });
  assert.deepEqual(read(id, { "arg.id": "+12" }), { id: 12 });
  const wrong = mistakes(schema, {
    "arg.n": "4",
    "arg.mail": "nobody",
    "arg.on": "2026-02-30",
    "arg.list#rows": "0,1",
    "arg.list.0": "1",
    "arg.list.1": "1.0",
    "arg.blob": "€",
    "arg.any": '{\n  "a": 1,\n  b: 2\n}',
  });
  assert.match(wrong["arg.mail"], /email/);
  assert.match(wrong["arg.on"], /a date such as/);
  assert.match(wrong["arg.list"], /same/);
  assert.match(wrong["arg.blob"], /base64/);
  assert.match(wrong["arg.any"], /Line 3, column 3: a name in double quotes/);
});

Deno.test("a button adds a row and removes one, and all else stays", () => {
  const values = { "arg.l#rows": "0,1", "arg.l.0": "a", "arg.l.1": "b" };
  assert.equal(changed(values, "add arg.l")["arg.l#rows"], "0,1,2");
  const removed = changed(values, "remove 0 arg.l");
  assert.deepEqual(read(object({ l: { type: "array", items: { type: "string" } } }), removed), {
    l: ["b"],
  });
  assert.deepEqual(changed(values, "nonsense"), values);
});

Deno.test("arguments that the fields cannot hold are kept as JSON", () => {
  const { values } = filledForm(object({ a: { type: "string" } }), { a: "x", b: [1] });
  assert.deepEqual(JSON.parse(values.raw), { a: "x", b: [1] });
  const fits = filledForm(object({ a: { type: "string" } }), { a: "x" });
  assert.equal(fits.values.raw, undefined);
  assert.equal(fits.values["arg.a"], "x");
});

Deno.test("a hostile schema makes a small form", () => {
  const wide = { $defs: { x: {} as Schema }, $ref: "#/$defs/x" };
  wide.$defs.x = object(Object.fromEntries(
    Array.from(
      { length: 50 },
      (_, index) => [`p${index}`, { anyOf: [{ $ref: "#/$defs/x" }, { type: "string" }] }],
    ),
  ));
  const started = performance.now();
  assert.ok(partsOf(formFor(wide, {}).part).length < 2000);
  console.log(
    `A schema that refers to itself 50 times a level: ${
      Math.round(performance.now() - started)
    } ms`,
  );
  for (
    const loop of [{ $ref: "#" }, { allOf: [{ $ref: "#" }] }, { $ref: "#/a", a: { $ref: "#/a" } }]
  ) {
    assert.equal(formFor(loop, {}).part.kind, "json");
  }
  assert.equal(formFor("no schema", {}).part.kind, "json");
});

Deno.test("a mistake in JSON is told with its line and column, for every text that is none", () => {
  const cases: [string, RegExp][] = [
    ["", /^Line 1, column 1: the text ends/],
    ["{\n", /^Line 2, column 1: the text ends/],
    ["[1,]", /^Line 1, column 4: a value/],
    ['{"a" 1}', /^Line 1, column 6: a colon/],
    ['{"a": 1}}', /^Line 1, column 9: nothing more/],
    ['["a\nb"]', /^Line 1, column 2: this text/],
    ["[01]", /^Line 1, column 2/],
    ["[tru]", /^Line 1, column 2/],
  ];
  for (const [text, message] of cases) {
    assert.throws(() => parseJson(text), { name: "SyntaxError", message }, text);
  }
  fc.assert(fc.property(fc.json(), fc.nat(), fc.string({ maxLength: 2 }), (json, at, put) => {
    const broken = json.slice(0, at % (json.length + 1)) + put + json.slice(at % (json.length + 1));
    let value: unknown;
    try {
      value = parseJson(broken);
    } catch (error) {
      assert.match((error as Error).message, /^Line \d+, column \d+: /);
      assert.throws(() => JSON.parse(broken));
      return;
    }
    assert.deepEqual(JSON.parse(JSON.stringify(value)), JSON.parse(broken));
  }));
});

/** A schema with a value that it allows. */
const pair: fc.Arbitrary<{ schema: Schema; value: unknown }> = fc.letrec<{
  any: { schema: Schema; value: unknown };
}>((tie) => {
  const texts = fc.string({ minLength: 1, maxLength: 8 }).filter((text) => text.isWellFormed());
  const leaf = fc.oneof(
    texts.map((value) => ({ schema: { type: "string", minLength: 1 }, value })),
    fc.integer({ min: -50, max: 50 }).map((value) => ({
      schema: { type: "integer", minimum: -50, maximum: 50 },
      value,
    })),
    fc.boolean().map((value) => ({ schema: { type: "boolean" }, value })),
    fc.constant({ schema: { type: "string", format: "date" }, value: "2026-02-28" }),
    fc.constant({ schema: { type: ["integer", "null"] }, value: null }),
    fc.uniqueArray(texts, { minLength: 1, maxLength: 4 }).chain((all) =>
      fc.constantFrom(...all).map((value) => ({ schema: { enum: all }, value }))
    ),
    fc.jsonValue({ maxDepth: 2 }).map((value) => ({ schema: {}, value })),
  );
  const names = fc.oneof(
    texts,
    fc.constantFrom("__proto__", "a.b", "x#rows", "%2E", "constructor", ""),
  );
  return {
    any: fc.oneof(
      { maxDepth: 3 },
      leaf,
      fc.uniqueArray(fc.tuple(names, tie("any"), fc.boolean()), {
        maxLength: 4,
        selector: ([name]) => name,
      })
        .map((members) => ({
          schema: {
            type: "object",
            properties: Object.fromEntries(members.map(([name, { schema }]) => [name, schema])),
            required: members.filter(([, , isRequired]) => isRequired).map(([name]) => name),
            additionalProperties: false,
          },
          value: Object.fromEntries(members.map(([name, { value }]) => [name, value])),
        })),
      fc.tuple(tie("any"), fc.nat(3)).map(([{ schema, value }, length]) => ({
        schema: { type: "array", items: schema },
        value: Array(length).fill(value),
      })),
      fc.tuple(tie("any"), fc.uniqueArray(names, { maxLength: 3 })).map((
        [{ schema, value }, all],
      ) => ({
        schema: { type: "object", additionalProperties: schema },
        value: Object.fromEntries(all.map((name) => [name, value])),
      })),
      fc.tuple(tie("any"), tie("any")).map(([one, other]) => ({
        schema: { anyOf: [one.schema, other.schema] },
        value: other.value,
      })),
    ),
  };
}).any;

Deno.test("a form filled with a value gives that value back, or keeps it as JSON", () => {
  let fields = 0, all = 0;
  fc.assert(
    fc.property(fc.array(pair, { minLength: 1, maxLength: 3 }), (pairs) => {
      const schema = object(
        Object.fromEntries(pairs.map(({ schema }, index) => [`p${index}`, schema])),
        { required: pairs.map((_, index) => `p${index}`) },
      );
      const value = Object.fromEntries(pairs.map(({ value }, index) => [`p${index}`, value]));
      const form = filledForm(schema, value);
      // What the page sends is what it was given, by name.
      const again = formFor(schema, form.values);
      assert.deepEqual(plain(argumentsOf(again.part, again.values)), plain(value));
      all++;
      if (form.values.raw === undefined) fields++;
    }),
    { numRuns: 500 },
  );
  console.log(`${fields} of ${all} values fit into fields, the others stay JSON`);
  assert.ok(fields > all * 0.7);
});

Deno.test("whatever is typed into the fields, what they hold the schema allows", () => {
  const ajv = new Ajv2020({
    ownProperties: true,
    strict: false,
    validateFormats: false,
    logger: false,
  });
  const typed = fc.oneof(
    fc.constantFrom(
      "",
      "0",
      "1",
      "-3",
      "2.5",
      "true",
      "false",
      "null",
      "x",
      "2026-02-28",
      "[]",
      "{}",
    ),
    fc.string({ maxLength: 6 }),
  );
  let held = 0;
  fc.assert(
    fc.property(pair, fc.infiniteStream(typed), fc.nat(2), ({ schema }, stream, rows) => {
      // A name that ajv does not look at.
      fc.pre(!JSON.stringify(schema).includes("__proto__"));
      const root = object({ p: schema }, { required: ["p"] });
      const values: Values = {};
      // Rows that are added bring parts of their own.
      for (let round = 0; round < 4; round++) {
        for (const part of partsOf(formFor(root, values).part)) {
          values[part.field] ??= stream.next().value!;
          if ("rows" in part && part.rows) {
            values[`${part.field}#rows`] ??= Array.from({ length: rows }, (_, id) => id).join(",");
            for (const row of part.rows) if (row.keyField) values[row.keyField] ??= `k${row.id}`;
          }
          if (part.kind === "set") {
            part.choices.forEach((_, index) =>
              values[`${part.field}.${index}`] ??= String(index % 2 === 0)
            );
          }
        }
      }
      const form = formFor(root, values);
      let value: unknown;
      try {
        value = valueOf(form.part, form.values);
      } catch (error) {
        assert.ok(error instanceof Invalid);
        return;
      }
      held++;
      assert.ok(ajv.validate(root, value), `${JSON.stringify(value)}: ${ajv.errorsText()}`);
    }),
    { numRuns: 500 },
  );
  console.log(`${held} of 500 forms held`);
});

/** Without prototypes and such. */
function plain(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}
