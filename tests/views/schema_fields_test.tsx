import assert from "node:assert/strict";
import { formFor } from "../../routes/schema_form.ts";
import { SchemaFields } from "../../views/schema_fields.tsx";

function html(schema: unknown, mistakes: Record<string, string> = {}): string {
  const { part, values } = formFor(schema, {});
  const form = { values, mistakes, action: "/try", target: "#trial" };
  return String(<SchemaFields part={part} form={form} />);
}

function object(properties: Record<string, unknown>, required: string[] = []) {
  return { type: "object", properties, required };
}

Deno.test("every field has an id of its own, whatever its name is written in", () => {
  const shown = html(object({
    名前: { type: "string" },
    住所: { type: "string", description: "Where" },
    "a-b": { type: "string" },
    a: object({ b: { type: "string" } }),
    tags: { type: "array", items: { type: "string" }, default: ["x"] },
  }));
  const ids = [...shown.matchAll(/\sid="([^"]*)"/g)].map(([, id]) => id);
  assert.equal(new Set(ids).size, ids.length, ids.join(" "));
  const named = [...shown.matchAll(/\s(?:for|aria-describedby|data-next)="([^"]*)"/g)];
  assert.ok(named.length > 5);
  for (const [, id] of named) assert.ok(ids.includes(id), id);
});

Deno.test("a text that is null by default is an empty field", () => {
  const nullable = { anyOf: [{ type: "string" }, { type: "null" }], default: null };
  assert.doesNotMatch(html(object({ name: nullable })), /value="null"|checked/);
  assert.match(html(object({ name: nullable }, ["name"])), /name="arg.name#null"[^>]*checked/);
});

Deno.test("a title that only repeats its name is not repeated", () => {
  const shown = html(object({
    user_id: { type: "string", title: "User Id" },
    q: { type: "string", title: "Words to look for" },
  }));
  assert.match(shown, /<label for="field-arg.user_id">user_id\s/);
  assert.match(shown, /<label for="field-arg.q">q \(Words to look for\)\s/);
});

Deno.test("a checkbox does not say that it is needed", () => {
  assert.doesNotMatch(html(object({ verbose: { type: "boolean" } }, ["verbose"])), /needed/);
});

Deno.test("what a text must be is said before a browser refuses it", () => {
  const code = { type: "string", minLength: 2, maxLength: 8, pattern: "^[A-Z]+$" };
  const shown = html(object({ code }));
  assert.match(shown, />At least 2 characters, at most 8 characters, must match \^\[A-Z\]\+\$</);
  assert.match(shown, /pattern="\.\*\(\?:\^\[A-Z\]\+\$\)\.\*"/);
});

Deno.test("a mistake shows what a stranger's name hides", () => {
  const name = "a\u202eb";
  const shown = html(object({ [name]: { type: "string" } }), {
    [`arg.${name}`]: `${name} is needed`,
  });
  assert.match(shown, />a\[U\+202E\]b is needed</);
});
