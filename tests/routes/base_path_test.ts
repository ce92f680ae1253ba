/** The app below a path of its own, as BASE_URL names it. */
import assert from "node:assert/strict";
import { localIdentity } from "../../models/local_identity.ts";
import { KINDS, openWorld } from "../models/databases.ts";
import { openPageApp } from "./page_app.ts";

Deno.test({
  name: "outside of its path the app says where it is, within it answers with and without a slash",
  sanitizeResources: false,
  sanitizeOps: false,
  async fn() {
    const world = await openWorld(KINDS[0]);
    const lines: string[] = [];
    for (const baseUrl of ["https://example.com/mooring", "https://example.com/mooring/"]) {
      const say = (line: string) => void lines.push(line);
      const identity = localIdentity(world.db, {
        secret: "a secret for tests, long enough",
        baseUrl: new URL(baseUrl),
      });
      const { app, close } = await openPageApp({ db: world.db, identity }, { baseUrl, say });
      const get = (path: string) => app.request(`https://example.com${path}`);
      // A proxy that takes the path away, and somebody who looks at the host.
      for (const path of ["/", "/servers", "/healthz", "/mooringx/servers", "/favicon.ico"]) {
        const answer = await get(path);
        assert.equal(answer.status, 404, path);
        assert.match(await answer.text(), /^Mooring is at https:\/\/example\.com\/mooring/);
      }
      for (const path of ["/mooring", "/mooring/", "/mooring/servers"]) {
        const answer = await get(path);
        assert.match(answer.headers.get("location") ?? "", /^\/mooring\/sign-in/, path);
      }
      assert.equal((await get("/mooring/healthz")).status, 200);
      // Metadata stands before the path that it is of (RFC 8414 and 9728, section 3.1).
      const read = async (kind: string, of: string) =>
        await (await get(`/.well-known/oauth-${kind}/mooring${of}`)).json();
      assert.equal((await read("authorization-server", "")).issuer, "https://example.com/mooring");
      for (const  of of["", "/mcp", "/sse/demo"]) {
        const { resource } = await read("protected-resource", of);
        assert.equal(resource, `https://example.com/mooring${of}`);
      }
      const outside = ["authorization-server", "protected-resource/mooringx", "client/mooring"];
      for (const path of outside) {
        assert.equal((await get(`/.well-known/oauth-${path}`)).status, 404, path);
      }
      assert.equal((await get("/mooring/no/such/page")).status, 303);
      await close();
    }
    assert.doesNotMatch(lines.join("\n"), /ERROR/);
    await world.close();
  },
});
