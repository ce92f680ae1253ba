/** The least server of event streams: each says something once and stays open. */
const FIRST = new TextEncoder().encode(": hello\n\n");

Deno.serve({
  hostname: "127.0.0.1",
  port: 0,
  onListen: ({ port }) => console.log(`http://127.0.0.1:${port}/`),
}, () =>
  new Response(new ReadableStream({ start: (controller) => controller.enqueue(FIRST) }), {
    headers: { "content-type": "text/event-stream" },
  }));
