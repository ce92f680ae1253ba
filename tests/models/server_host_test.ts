import assert from "node:assert/strict";
import { type HostFacts, LAYERS } from "../../dtma/protocol.ts";
import { hostLayer, type HostSeen, shownLayers } from "../../models/server_host.ts";
import type { Layers } from "../../models/server_status.ts";

const AT = "2026-01-02T03:04:05.000Z";
const EARLIER = "2026-01-01T00:00:00.000Z";

const facts = (engine: HostFacts["engine"]): HostFacts => ({
  dtmaVersion: "1",
  protocolVersion: 2,
  reach: "tunnel",
  address: null,
  engine,
});
const engine = {
  state: "ready" as const,
  version: "26.1.5",
  apiVersion: "1.45",
  os: "Debian",
  architecture: "x86_64",
  cpus: 2,
  memoryBytes: 1,
};

const seen = (changes: Partial<HostSeen> = {}): HostSeen => ({
  toolboxName: "Attic",
  createdAt: new Date(EARLIER),
  lastSeenAt: new Date(AT),
  silentS: 3,
  toolboxRevokedAt: null,
  facts: facts(engine),
  ...changes,
});

const layers = Object.fromEntries(LAYERS.map((name) => [name, {
  state: name === "tools" ? "failed" : "ready",
  detail: name === "tools" ? "It lists none" : "",
  since: EARLIER,
}])) as Layers;

Deno.test("hostLayer says of every host how it is, why and since when", () => {
  const away = { state: "absent" as const, reason: "No socket", advice: "Install it" };
  const cases: [HostSeen, string, string, RegExp, boolean][] = [
    [seen(), "ready", AT, /^Attic with Docker Engine 26\.1\.5$/, false],
    [seen({ silentS: 600 }), "failed", AT, /Attic is silent: its containers run on/, true],
    [seen({ lastSeenAt: null, silentS: null }), "waiting", EARLIER, /never heard of/, false],
    [seen({ toolboxRevokedAt: new Date(EARLIER) }), "failed", EARLIER, /was revoked/, true],
    [seen({ facts: facts(away) }), "failed", AT, /No Docker Engine answers on Attic/, false],
    [seen({ facts: facts({ ...away, since: EARLIER }) }), "failed", EARLIER, /No socket/, false],
  ];
  for (const [host, state, since, detail, isUnknown] of cases) {
    const layer = hostLayer(host);
    assert.equal(layer.state, state);
    assert.equal(layer.since, since);
    assert.match(layer.detail, detail);
    assert.equal(Boolean(layer.nextStep), state === "failed");
    const shown = shownLayers(layers, layer);
    if (!isUnknown) {
      assert.deepEqual(shown, layers);
      continue;
    }
    // Nothing that was seen before is told as if it were so now.
    for (const name of LAYERS) {
      assert.deepEqual([shown[name].state, shown[name].since], ["unknown", since]);
    }
    assert.equal(shown.image.detail, "Was ready");
    assert.equal(shown.tools.detail, "Was failed (It lists none)");
  }
});
