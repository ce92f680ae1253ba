import assert from "node:assert/strict";
import { openEgress } from "../../dtma/egress.ts";
import { engineTest } from "./engine.ts";
import { openInside } from "./egress_inside.ts";
import type { Denial } from "../../dtma/protocol.ts";

engineTest("smoke", async ({ docker, id }) => {
  const denials: Denial[] = [];
  const egress = openEgress({
    docker,
    toolboxId: id,
    privateNetworks: ["172.17.0.1/32"],
    addresses: { "api.example.test": ["172.17.0.1"] },
    onDenied: (d) => denials.push(d),
    log: (l, m) => console.log(l, m),
  });
  const server = Deno.serve(
    { hostname: "172.17.0.1", port: 0, onListen() {} },
    (r) => new Response("hello " + r.url),
  );
  const port = server.addr.port;
  const a = await openInside(docker, id, egress, [`api.example.test:${port}`]);
  console.log(await a.run("return await get({host:'api.example.test', port: input})", port));
  console.log(await a.run("return await get({host:'evil.test', port: input})", port));
  console.log(
    await a.run(
      "return await get({host:input.proxy, port: 3128, path: 'http://api.example.test:'+input.port+'/x'})",
      { port, proxy: a.proxyAddress },
    ),
  );
  console.log(
    await a.run(
      "return await get({host:input.proxy, port: 3128, path: 'http://evil.test:'+input.port+'/x'})",
      { port, proxy: a.proxyAddress },
    ),
  );
  await new Promise((r) => setTimeout(r, 2000));
  console.log(denials);
  a.close();
  await docker.removeContainer(a.containerId);
  await egress.close(a.container);
  await egress.detach();
  await server.shutdown();
  assert.ok(true);
});
