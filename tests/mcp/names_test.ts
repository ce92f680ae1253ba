import assert from "node:assert/strict";
import fc from "fast-check";
import { publicNames } from "../../mcp/names.ts";

const tool = fc.record({
  serverSlug: fc.stringMatching(/^[a-z0-9][a-z0-9-]{0,40}$/),
  name: fc.oneof(
    fc.string({ minLength: 1 }),
    fc.stringMatching(/^[a-z_]{1,70}$/),
    fc.constantFrom("a__b", "x_h0123456789"),
  ),
  serverId: fc.uuid(),
});
// As the database has it: a server's tools differ in name, servers in slug.
const toolbelt = fc.uniqueArray(tool, {
  selector: ({ serverSlug, name }) => `${serverSlug}\n${name}`,
  maxLength: 60,
});

Deno.test("publicNames are unique, at most 60 characters of [a-zA-Z0-9_-]", () => {
  fc.assert(fc.property(toolbelt, (tools) => {
    const names = publicNames(tools);
    assert.equal(names.size, tools.length);
    for (const name of names.keys()) assert.match(name, /^[a-zA-Z0-9_-]{1,60}$/);
  }));
});

Deno.test("publicNames hold still when other tools come and go", () => {
  fc.assert(fc.property(toolbelt, (tools) => {
    const all = publicNames(tools);
    for (const [name, each] of all) {
      const alone = [...publicNames([each]).keys()][0];
      // Only a true collision of plain names lets another tool matter.
      const collides = tools.some((other) =>
        other !== each &&
        `${other.serverSlug}__${other.name}` === `${each.serverSlug}__${each.name}`
      );
      if (!collides) assert.equal(name, alone);
    }
  }));
});

Deno.test("publicNames keep a plain name as it is", () => {
  const names = publicNames([{ serverSlug: "github", name: "create_issue", serverId: "1" }]);
  assert.deepEqual([...names.keys()], ["github__create_issue"]);
});
