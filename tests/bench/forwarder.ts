/** The ideal forwarder of one hop: takes a JSON-RPC POST, checks nothing, writes to the pipe, answers. */
import { pipe } from "./direct.ts";

const { ask } = await pipe(Deno.args[0]);
Deno.serve({
  hostname: "127.0.0.1",
  port: 0,
  onListen: ({ port }) => console.log(`http://127.0.0.1:${port}/`),
}, async (request) => new Response(await ask(await request.text())));
