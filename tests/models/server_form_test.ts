import assert from "node:assert/strict";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import { CatalogEntry } from "../../models/catalog_entries.ts";
import { Invalid } from "../../models/errors.ts";
import { readForm, resolveInputs } from "../../models/server_form.ts";

const entryOf = (inputs: { arguments?: unknown[]; environment?: unknown[] }) =>
  CatalogEntry.parse({ ...builtin[0], arguments: [], environment: [], ...inputs });

function mistakesIn(entry: CatalogEntry, form: Record<string, string>): Record<string, string> {
  try {
    readForm(entry, form, []);
    return {};
  } catch (error) {
    assert.ok(error instanceof Invalid, String(error));
    return error.fields;
  }
}

Deno.test("readForm names each field that does not hold, and no other", () => {
  const entry = entryOf({
    arguments: [{ type: "positional", name: "path", isRequired: true }],
    environment: [
      { name: "COUNT", format: "number" },
      { name: "DEBUG", format: "boolean" },
      { name: "MODE", choices: ["fast", "slow"], label: "The mode" },
      { name: "KEY", isRequired: true, isSecret: true },
      { name: "NOTE" },
    ],
  });
  const wrong = mistakesIn(entry, {
    "env.COUNT": "1; rm -rf /",
    "env.DEBUG": "maybe",
    "env.MODE": "<script>",
    "env.KEY": " \n ",
    "env.NOTE": 'it\'s "fine" <b>\u202e',
  });
  assert.deepEqual(wrong, {
    "arg.0": "path is needed",
    "env.COUNT": "COUNT must be a number",
    "env.DEBUG": "DEBUG must be yes or no",
    "env.MODE": "The mode must be one of fast, slow",
    "env.KEY": "KEY is needed",
  });
  for (const number of ["0", "-1", "3.25"]) {
    const form = { "arg.0": "x", "env.KEY": "k", "env.COUNT": number };
    assert.deepEqual(mistakesIn(entry, form), {}, number);
  }
  for (const number of ["1e3", "0x1", "NaN", " 1", "1\n2", "--1"]) {
    const form = { "arg.0": "x", "env.KEY": "k", "env.COUNT": number };
    assert.deepEqual(Object.keys(mistakesIn(entry, form)), ["env.COUNT"], number);
  }
});

Deno.test("readForm bounds a value by its bytes", () => {
  const entry = entryOf({
    arguments: [{ type: "positional", name: "a" }],
    environment: [{ name: "E" }],
  });
  const kibOf = (kib: number) => "é".repeat(kib * 512);
  assert.deepEqual(mistakesIn(entry, { "arg.0": kibOf(8), "env.E": kibOf(32) }), {});
  assert.deepEqual(
    Object.keys(mistakesIn(entry, { "arg.0": kibOf(8) + "x", "env.E": kibOf(32) + "x" })),
    ["arg.0", "env.E"],
  );
});

Deno.test("readForm takes what the entry asks alone, and keeps secrets apart", () => {
  const entry = entryOf({
    arguments: [{ type: "named", name: "--key", isSecret: true }],
    environment: [{ name: "FIXED", value: "1" }, { name: "TOKEN", isSecret: true }, { name: "A" }],
  });
  const form = {
    "arg.0": " s1 ",
    "env.FIXED": "2",
    "env.TOKEN": "s2",
    "env.A": " kept as typed ",
    "env.LD_PRELOAD": "/work/x.so",
  };
  assert.deepEqual(readForm(entry, form, []), {
    values: { "env.A": " kept as typed " },
    secrets: { "arg.0": "s1", TOKEN: "s2" },
  });
});

Deno.test("readForm lets a secret that is needed stay empty only where it has a value", () => {
  const entry = entryOf({ environment: [{ name: "KEY", isRequired: true, isSecret: true }] });
  assert.deepEqual(readForm(entry, {}, ["KEY"]), { values: {}, secrets: {} });
  assert.throws(() => readForm(entry, {}, ["OTHER"]), Invalid);
});

Deno.test("resolveInputs gives arguments in the entry's order, each an item of its own", () => {
  const entry = entryOf({
    arguments: [
      { type: "positional", name: "directory", value: "/work" },
      { type: "named", name: "--level" },
      { type: "named", name: "--verbose", format: "boolean" },
      { type: "named", name: "--quiet", format: "boolean" },
      { type: "named", name: "--tag", isRepeated: true },
      { type: "named", name: "--key", isSecret: true },
      { type: "positional", name: "left out" },
    ],
    environment: [{ name: "MODE", value: "fixed" }, { name: "EMPTY" }, {
      name: "TOKEN",
      isSecret: true,
    }],
  });
  const { values, secrets } = readForm(entry, {
    "arg.1": "2",
    "arg.2": "true",
    "arg.3": "false",
    "arg.4": "a b\r\n$(id)\n\n--not-a-flag",
    "arg.5": "s3cret",
    "env.TOKEN": "t0ken",
  }, []);
  assert.deepEqual(resolveInputs(entry, values, secrets), {
    arguments: [
      "/work",
      ...["--level", "2"],
      "--verbose",
      ...["--tag", "a b", "--tag", "$(id)", "--tag", "--not-a-flag"],
      ...["--key", "s3cret"],
    ],
    environment: { MODE: "fixed" },
    secrets: { TOKEN: "t0ken" },
    secretFiles: {},
  });
});

Deno.test("readForm refuses more lines than a spec has arguments", () => {
  const entry = entryOf({ arguments: [{ type: "named", name: "--tag", isRepeated: true }] });
  const lines = (count: number) => ({ "arg.0": "x\n".repeat(count) });
  assert.deepEqual(mistakesIn(entry, lines(32)), {});
  assert.match(mistakesIn(entry, lines(33))["arg.0"], /at most 64 arguments/);
});
