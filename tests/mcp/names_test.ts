import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { publicNames } from "../../mcp/names.ts";

interface Tool {
  serverSlug: string;
  name: string;
  serverId: string;
}

const slug = fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,40}$/);
/** Names as servers send them: mostly good ones, and whatever else a string can be. */
const name = fc.oneof(
  fc.stringMatching(/^[a-zA-Z0-9_-]{1,40}$/),
  fc.string({ unit: "binary", minLength: 1, maxLength: 80 }),
  fc.string({ unit: "grapheme", minLength: 1, maxLength: 200 }),
  fc.constantFrom("__proto__", "constructor", "toString", "a__b", "__", "_h0123456789", "../x"),
  // What a hashed name looks like, and what differs in odd characters alone.
  fc.stringMatching(/^[a-z]{1,5}_h[0-9a-z]{10}$/),
  fc.stringMatching(/^get[ ./:]{1,3}sum$/),
);
/** Servers with tools of different names, as the database holds them. */
const toolbelt: fc.Arbitrary<Tool[]> = fc.uniqueArray(
  fc.record({ serverSlug: slug, names: fc.uniqueArray(name, { maxLength: 8 }) }),
  { selector: ({ serverSlug }) => serverSlug, maxLength: 5 },
).map((servers) =>
  servers.flatMap(({ serverSlug, names }) =>
    names.map((name) => ({ serverSlug, name, serverId: `id-of-${serverSlug}` }))
  )
);

const plainName = ({ serverSlug, name }: Tool) => `${serverSlug}__${name}`;

Deno.test("publicNames gives every tool one short, plain and unique name", () => {
  fc.assert(fc.property(toolbelt, (tools) => {
    const named = publicNames(tools);
    assert.deepEqual([...named.values()], tools, "every tool once, in the given order");
    for (const [name, tool] of named) {
      assert.match(name, /^[a-zA-Z0-9_-]{1,60}$/);
      const isFit = /^[a-zA-Z0-9_-]{1,60}$/.test(plainName(tool)) &&
        !/_h[0-9a-z]{10}$/.test(name) &&
        tools.filter((other) => plainName(other) === plainName(tool)).length === 1;
      if (isFit) assert.equal(name, plainName(tool));
    }
  }));
});

Deno.test("publicNames does not depend on other tools and their order but for true collisions", () => {
  fc.assert(
    fc.property(toolbelt, fc.infiniteStream(fc.boolean()), fc.nat(), (tools, kept, turn) => {
      const before = new Map([...publicNames(tools)].map(([name, tool]) => [tool, name]));
      const some = tools.filter(() => kept.next().value);
      some.push(...some.splice(0, turn % (some.length + 1)));
      for (const [name, tool] of publicNames(some)) {
        const collides = (list: Tool[]) =>
          list.some((other) => other !== tool && plainName(other) === plainName(tool));
        if (collides(tools) === collides(some)) assert.equal(name, before.get(tool));
      }
    }),
  );
});

Deno.test("publicNames tells apart what would read the same", () => {
  const tool = (serverSlug: string, name: string): Tool => ({
    serverSlug,
    name,
    serverId: serverSlug,
  });
  const colliding = [tool("a", "b__c"), tool("a__b", "c"), tool("a", "b c"), tool("a", "b.c")];
  const names = [...publicNames(colliding).keys()];
  assert.equal(new Set(names).size, 4);
  for (const name of names) assert.match(name, /^a__b_+c_h[0-9a-z]{10}$/);
  // One that imitates another's hashed name gets a hash of its own.
  const imitation = tool("a", names[2].slice("a__".length));
  const both = publicNames([colliding[2], imitation]);
  assert.equal(both.get(names[2]), colliding[2]);
  assert.equal(both.size, 2);
});

Deno.test("publicNames is the same from one start to the next", () => {
  const long = { serverSlug: "demo", name: "x".repeat(80), serverId: "s" };
  assert.deepEqual([...publicNames([long]).keys()], [...publicNames([{ ...long }]).keys()]);
  assert.equal([...publicNames([long]).keys()][0].length, 60);
});

Deno.test("publicNames hides none of 20,000 tools that all need a hash", () => {
  const tools = Array.from({ length: 20_000 }, (_, i) => (
    { serverSlug: "s", name: `tool ${i}`, serverId: "01890000-0000-7000-8000-000000000001" }
  ));
  assert.equal(publicNames(tools).size, tools.length);
});
