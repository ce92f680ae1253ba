/** How far servers are trusted, and what is known of their packages, from the form to the toolbox and back. */
import assert from "node:assert/strict";
import { v7 } from "uuid";
import { HostFacts, type ImageScan, ServerSpec } from "../../dtma/protocol.ts";
import { Invalid } from "../../models/errors.ts";
import { readScans } from "../../models/scans.ts";
import {
  deployServer,
  getServer,
  listGenerations,
  reconfigureServer,
} from "../../models/servers.ts";
import { acceptReport, desiredOf, enrolToolbox, touchToolbox } from "../../models/toolboxes.ts";
import { ServerVulnerabilities } from "../../views/server_vulnerabilities.tsx";
import { KINDS, openWorld, testKey } from "./databases.ts";
import { observation } from "./observation.ts";

const gvisor = { runtime: "runsc", kind: "gvisor" } as const;

/** Facts of a DTMA that knows tiers, on an engine with this sandbox. */
const factsWith = (
  sandbox: typeof gvisor | null,
  changes: Partial<HostFacts> = { knowsTiers: true, scanner: "trivy" },
): HostFacts =>
  HostFacts.parse({
    dtmaVersion: "0",
    protocolVersion: 2,
    address: "http://127.0.0.1:1",
    engine: {
      state: "ready",
      version: "28",
      apiVersion: "1.51",
      os: "Linux",
      architecture: "x86_64",
      cpus: 4,
      memoryBytes: 8 * 1024 ** 3,
      sandbox: sandbox && { ...sandbox, standard: true, differs: [] },
    },
    ...changes,
  });

for (const kind of KINDS) {
  Deno.test({
    name: `tiers and scans, on the ${kind.name} database`,
    ignore: kind.ignore,
    sanitizeResources: false,
    sanitizeOps: false,
    async fn(t) {
      const world = await openWorld(kind);
      const { db, user, workspaceId, toolboxId, enrolmentToken } = world;
      const publicKey = "k".repeat(43);
      await enrolToolbox(db, { token: enrolmentToken, publicKey, facts: factsWith(null) });
      const deploy = (form: Record<string, string>, chosen?: string) =>
        deployServer(db, user, {
          workspaceId,
          toolboxId: chosen,
          slug: "everything",
          form,
          idempotencyKey: crypto.randomUUID(),
        }, testKey);
      const untrusted = { "option.tier": "untrusted" };
      const specOf = async (id: string) =>
        (await desiredOf(db, toolboxId, testKey)).servers.find(({ serverId }) => serverId === id)!;
      const epoch = v7();
      let sequence = 0;
      const report = (given: Partial<Parameters<typeof acceptReport>[2]>) =>
        acceptReport(db, toolboxId, {
          epoch,
          sequence: ++sequence,
          observations: [],
          events: [],
          removed: [],
          ...given,
        });
      let serverId = "";

      await t.step("an untrusted server goes to no toolbox without a sandbox", async () => {
        for (const chosen of [undefined, toolboxId]) {
          await assert.rejects(deploy(untrusted, chosen), (error) => {
            assert.ok(error instanceof Invalid);
            assert.match(error.message, /has no gVisor or Kata for its Docker Engine/);
            return true;
          });
        }
        await touchToolbox(db, toolboxId, factsWith(gvisor, {}));
        await assert.rejects(deploy(untrusted), /a DTMA that is too old to sandbox/);
        await assert.rejects(deploy({ "option.tier": "trusted" }), Invalid);

        await touchToolbox(db, toolboxId, factsWith(gvisor));
        ({ serverId } = await deploy(untrusted));
        const spec = await specOf(serverId);
        assert.deepEqual([spec.tier, spec.running], ["untrusted", true]);
        assert.deepEqual(ServerSpec.parse(spec), spec);
      });

      await t.step("what it runs in is what its toolbox saw", async () => {
        const seen = observation(serverId, 1, []);
        await report({ observations: [{ ...seen, sandbox: gvisor }] });
        const server = await getServer(db, user, serverId);
        assert.deepEqual([server.tier, server.sandbox, server.unsandboxed], [
          "untrusted",
          gvisor,
          null,
        ]);
        await report({ observations: [{ ...seen, unsandboxed: "A reason\\u0000" }] });
        assert.equal((await getServer(db, user, serverId)).sandbox, null);
      });

      await t.step("a DTMA that knows no tiers is not let run it", async () => {
        await touchToolbox(db, toolboxId, factsWith(gvisor, {}));
        assert.equal((await specOf(serverId)).running, false);
        const { status, statusDetail } = await getServer(db, user, serverId);
        assert.equal(status, "failed");
        assert.match(statusDetail, /too old to sandbox it, so it is not run/);
        await touchToolbox(db, toolboxId, factsWith(gvisor));
        assert.equal((await specOf(serverId)).running, true);
      });

      await t.step("the tier is changed on the server's page, as a change", async () => {
        await reconfigureServer(db, user, serverId, {
          form: { "option.tier": "standard" },
          baseGeneration: 1,
        }, testKey);
        assert.equal((await specOf(serverId)).tier, "standard");
        const [{ changes }] = await listGenerations(db, user, serverId);
        assert.deepEqual(changes, [
          { name: "How far it is trusted", before: "untrusted", after: "standard" },
        ]);
        await touchToolbox(db, toolboxId, factsWith(null));
        await assert.rejects(
          reconfigureServer(
            db,
            user,
            serverId,
            { form: untrusted, baseGeneration: 2 },
            testKey,
          ),
          /has no gVisor or Kata/,
        );
      });

      const scanOf = (outcome: ImageScan["outcome"], changes: Partial<ImageScan> = {}) => ({
        imageId: "sha256:0",
        at: "2026-11-25T12:00:00.000Z",
        components: 12,
        scanner: { name: "trivy", version: "0.69.3", databaseAt: "2026-11-25T06:00:00.000Z" },
        outcome,
        ...changes,
      });
      const page = async () => {
        const server = await getServer(db, user, serverId);
        const scans = await readScans(db, user, serverId);
        return String(await ServerVulnerabilities({ server, scans })!.toString());
      };

      await t.step("a page without a scan says why there is none", async () => {
        assert.match(await page(), /Not scanned yet/);
        await touchToolbox(db, toolboxId, factsWith(null, { scanner: null }));
        assert.match(await page(), /No scanner on this toolbox.*trivy/s);
        await touchToolbox(db, toolboxId, factsWith(null, {}));
        assert.match(await page(), /DTMA does not say whether it can scan/);
        await touchToolbox(db, toolboxId, factsWith(null));
      });

      await t.step("a scan is kept, the newest of each server, and shown as text", async () => {
        const counts = { critical: 1, high: 0, medium: 0, low: 2, negligible: 0, unknown: 0 };
        const hostile = {
          id: '"><script>alert(1)</script>',
          package: "a\u0000b\u202e",
          installed: "1",
          fixed: "2",
          title: "<img src=x onerror=alert(2)>",
          severity: "critical" as const,
          url: "javascript:alert(3)//https://",
        };
        const findings = [hostile, {
          ...hostile,
          id: "CVE-1",
          url: 'https://a.example/"onclick=x',
        }];
        await report({
          scans: [
            { serverId, scan: scanOf({ state: "scanned", counts, findings, unread: 4 }) },
            { serverId: v7(), scan: scanOf({ state: "failed", reason: "Another's" }) },
          ],
        });
        const html = await page();
        assert.match(html, /1 critical/);
        assert.match(html, /2 low/);
        assert.match(html, /The worst 2 of 3/);
        assert.match(html, /4 findings could not be read/);
        assert.match(html, /by trivy 0\.69\.3/);
        assert.match(html, /shown 12 packages/);
        assert.equal(/<script|<img|href="javascript|\sonclick=/.test(html), false, html);
        assert.equal([...html.matchAll(/<a href/g)].length, 1);
        assert.match(html, /\[U\+202E\]/);

        await report({
          scans: [{
            serverId,
            scan: scanOf({ state: "failed", reason: "The <b>database</b>" }, {
              imageId: "sha256:before",
              scanner: null,
            }),
          }],
        });
        assert.match(await page(), /The scan failed\..*The &lt;b&gt;database/s);
        assert.match(await page(), /the image before the one that runs now/);
      });
      await world.close();
    },
  });
}
