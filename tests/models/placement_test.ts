import assert from "node:assert/strict";
import fc from "npm:fast-check@4.10.2";
import { type Candidate, nothingFits, place, whyNever, type Wish } from "../../models/placement.ts";

const date = new Date(0);
const engine = (memoryMiB: number) => ({
  state: "ready" as const,
  version: "28",
  apiVersion: "1.51",
  os: "Linux",
  architecture: "x86_64",
  cpus: 4,
  memoryBytes: memoryMiB * 1024 ** 2,
});
const facts = (memoryMiB: number | null) => ({
  dtmaVersion: "0",
  protocolVersion: 2,
  reach: "tunnel" as const,
  address: null,
  engine: memoryMiB === null
    ? { state: "absent" as const, reason: "none", advice: "install" }
    : engine(memoryMiB),
});

const candidate: fc.Arbitrary<Omit<Candidate, "id" | "name">> = fc.record({
  facts: fc.option(fc.option(fc.integer({ min: 64, max: 4096 })).map(facts)),
  isLocal: fc.boolean(),
  isEnrolled: fc.boolean(),
  isOnline: fc.boolean(),
  drainedAt: fc.option(fc.constant(date), { freq: 3 }),
  revokedAt: fc.option(fc.constant(date), { freq: 3 }),
  servers: fc.integer({ min: 0, max: 5 }),
  promisedMiB: fc.integer({ min: 0, max: 4096 }),
  labels: fc.dictionary(fc.constantFrom("site", "gpu"), fc.constantFrom("a", "b=c", "")),
});
const fleet = fc.array(candidate, { maxLength: 8 }).map((boxes): Candidate[] =>
  boxes.map((box, index) => ({ ...box, id: `id-${index}`, name: `Box ${index}` }))
);
const wish = fc.record({
  memoryMiB: fc.integer({ min: 64, max: 2048 }),
  label: fc.option(fc.constantFrom("site=a", "gpu=b=c", "gpu="), { nil: undefined, freq: 2 }),
});

/** What "fits" means, said again in other words. */
function fits(box: Candidate, { memoryMiB, label }: Wish): boolean {
  const [, key, value] = /^(\w+)=(.*)$/.exec(label ?? "") ?? [];
  return box.isEnrolled && box.isOnline && !box.drainedAt && !box.revokedAt &&
    box.facts?.engine.state === "ready" &&
    box.facts.engine.memoryBytes >= (box.promisedMiB + memoryMiB) * 1024 ** 2 &&
    (!key || box.labels[key] === value);
}

Deno.test("place takes the fitting toolbox with the fewest servers, or none", () => {
  fc.assert(fc.property(fleet, wish, (boxes, wish) => {
    const { toolboxId } = place(boxes, wish);
    const fitting = boxes.filter((box) => fits(box, wish));
    if (fitting.length === 0) return assert.equal(toolboxId, null);
    const chosen = fitting.find(({ id }) => id === toolboxId);
    assert.ok(chosen, "it fits");
    assert.equal(chosen.servers, Math.min(...fitting.map(({ servers }) => servers)));
  }));
});

Deno.test("place says why for exactly those that do not fit, and names them", () => {
  fc.assert(fc.property(fleet, wish, (boxes, wish) => {
    const placed = place(boxes, wish);
    assert.deepEqual(placed.fits.map(({ toolboxId }) => toolboxId), boxes.map(({ id }) => id));
    for (const [index, { why, isChoosable }] of placed.fits.entries()) {
      assert.equal(why === null, fits(boxes[index], wish));
      if (why !== null) assert.ok(why.startsWith(boxes[index].name));
      assert.equal(isChoosable, whyNever(boxes[index]) === null);
      assert.ok(why !== null || isChoosable);
    }
  }));
});

Deno.test("place does not hang on the order of the list, but for equals", () => {
  fc.assert(fc.property(fleet, wish, (boxes, wish) => {
    const one = place(boxes, wish).toolboxId, other = place(boxes.toReversed(), wish).toolboxId;
    const of = (id: string | null) => {
      const box = boxes.find((each) => each.id === id);
      return box && [
        box.servers,
        box.facts?.engine.state === "ready" &&
        box.facts.engine.memoryBytes / 1024 ** 2 - box.promisedMiB,
      ];
    };
    assert.deepEqual(of(one), of(other));
  }));
});

Deno.test("one server after another is spread over the fleet and overfills none", () => {
  fc.assert(fc.property(fleet, wish, (boxes, wish) => {
    const placed = boxes.map((box) => ({ ...box, servers: 0, promisedMiB: 0 }));
    for (let turn = 0; turn < 40; turn++) {
      const box = placed.find(({ id }) => id === place(placed, wish).toolboxId);
      if (!box) break;
      box.servers++;
      box.promisedMiB += wish.memoryMiB;
      assert.ok(box.facts?.engine.state === "ready");
      assert.ok(box.promisedMiB * 1024 ** 2 <= box.facts.engine.memoryBytes);
    }
  }));
});

Deno.test("an untrusted server is placed where there is a sandbox, and told why elsewhere", () => {
  const sandbox = { runtime: "runsc", kind: "gvisor" as const, standard: true, differs: [] };
  const box = (id: string, given: Partial<Candidate["facts"]>, found?: typeof sandbox | null) => ({
    id,
    name: id,
    facts: { ...facts(4096), ...given, engine: { ...engine(4096), sandbox: found } },
    isLocal: false,
    isEnrolled: true,
    isOnline: true,
    drainedAt: null,
    revokedAt: null,
    servers: id === "Safe" ? 9 : 0,
    promisedMiB: 0,
    labels: {},
  });
  const boxes = [
    box("Old", {}, sandbox),
    box("Plain", { knowsTiers: true }, null),
    box("Safe", { knowsTiers: true }, sandbox),
  ];
  const { toolboxId, fits } = place(boxes, { memoryMiB: 64, tier: "untrusted" });
  assert.equal(toolboxId, "Safe");
  assert.match(fits[0].why!, /^Old has a DTMA that is too old/);
  assert.match(fits[1].why!, /^Plain has no gVisor or Kata/);
  assert.equal(place(boxes, { memoryMiB: 64, tier: "standard" }).toolboxId, "Old");
});

Deno.test("a server over HTTP is placed where the DTMA knows of that, and told why elsewhere", () => {
  const box = (name: string, given: Partial<Candidate["facts"]>) => ({
    id: name,
    name,
    facts: { ...facts(4096), ...given },
    isLocal: false,
    isEnrolled: true,
    isOnline: true,
    drainedAt: null,
    revokedAt: null,
    servers: name === "New" ? 9 : 0,
    promisedMiB: 0,
    labels: {},
  });
  const boxes = [box("Old", {}), box("New", { knowsTransports: true })];
  const transport = { type: "sse", port: 3000, path: "/sse" } as const;
  const { toolboxId, fits } = place(boxes, { memoryMiB: 64, transport });
  assert.equal(toolboxId, "New");
  assert.match(fits[0].why!, /^Old has a DTMA that is too old for servers that speak HTTP/);
  assert.equal(place(boxes, { memoryMiB: 64, transport: { type: "stdio" } }).toolboxId, "Old");
});

Deno.test("nothingFits gives the reasons and a way out", () => {
  assert.match(nothingFits([], { memoryMiB: 512 }), /add one on the toolboxes page/);
  const box: Candidate = {
    id: "a",
    name: "A",
    facts: facts(1024),
    isLocal: false,
    isEnrolled: true,
    isOnline: true,
    drainedAt: null,
    revokedAt: null,
    servers: 1,
    promisedMiB: 768,
    labels: { site: "office" },
  };
  const said = nothingFits([box, { ...box, name: "B", drainedAt: date }], { memoryMiB: 512 });
  assert.match(said, /A has 256 MiB of memory that no server was promised, and this one needs 512/);
  assert.match(said, /B is drained: undrain it/);
  assert.match(said, /Mend one of these, or add a toolbox$/);
  const other = { ...box, name: "C", labels: { site: "home" } };
  const labelled = nothingFits([box, other], { memoryMiB: 512, label: "site=office" });
  assert.match(labelled, /^No toolbox with the label site=office can take it now\. A has 256 MiB/);
  assert.doesNotMatch(labelled, /\bC\b/, "what lacks the label is not to be mended");
  assert.match(
    nothingFits([other], { memoryMiB: 512, label: "site=office" }),
    /^No toolbox has the label site=office: give it to one on its page/,
  );
});

Deno.test("a REST API goes where the DTMA has the adapter for it", () => {
  const box = {
    name: "Old",
    isLocal: false,
    isEnrolled: true,
    isOnline: true,
    drainedAt: null,
    revokedAt: null,
    servers: 0,
    promisedMiB: 0,
    labels: {},
  };
  const old = { ...box, id: "old", facts: facts(4096) };
  const fresh = { ...box, id: "new", servers: 3, facts: { ...facts(4096), knowsApis: true } };
  const wish = { memoryMiB: 192, registry: "openapi" };
  assert.equal(place([old, fresh], wish).toolboxId, "new");
  assert.equal(place([old, fresh], { memoryMiB: 192, registry: "remote" }).toolboxId, "old");
  assert.match(nothingFits([old], wish), /Old has a DTMA that is too old for REST APIs/);
});
