/**
 * Stands before the bridge for a client that cannot be given a token: adds it to each request, and
 * passes all else on byte for byte, since the suite tries odd headers on purpose.
 */

/** Opens it; `url` is then reached under the address that is returned. */
export function openTokenProxy(url: string, token: string): { url: string } & Disposable {
  const { hostname, port, host, pathname } = new URL(url);
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const own = `127.0.0.1:${listener.addr.port}`;
  /** A request's head, as if it had been sent to the bridge's own address. */
  const admitted = (head: string) => {
    const [first, ...fields] = head.split("\r\n");
    const there = fields.map((field) =>
      /^(host|origin):/i.test(field) ? field.replace(own, host) : field
    );
    return [first, `Authorization: Bearer ${token}`, ...there].join("\r\n");
  };
  const serve = async (client: Deno.TcpConn) => {
    using _client = client;
    using bridge = await Deno.connect({ hostname, port: Number(port) });
    const answers = bridge.readable.pipeTo(client.writable).catch(() => {});
    await passRequests(client.readable, bridge.writable, admitted).catch(() => {});
    await answers;
  };
  (async () => {
    for await (const client of listener) serve(client).catch(() => {});
  })().catch(() => {});
  return { url: `http://${own}${pathname}`, [Symbol.dispose]: () => listener.close() };
}

async function passRequests(
  from: ReadableStream<Uint8Array>,
  to: WritableStream<Uint8Array>,
  admitted: (head: string) => string,
) {
  const writer = to.getWriter();
  // Latin-1 keeps each byte as one character, whatever it is.
  let waiting = "";
  let bodyLeft = 0;
  const write = (text: string) => writer.write(Uint8Array.from(text, (c) => c.charCodeAt(0)));
  for await (const chunk of from) {
    for (const byte of chunk) waiting += String.fromCharCode(byte);
    while (waiting !== "") {
      if (bodyLeft > 0) {
        const part = waiting.slice(0, bodyLeft);
        waiting = waiting.slice(part.length);
        bodyLeft -= part.length;
        await write(part);
        continue;
      }
      const end = waiting.indexOf("\r\n\r\n");
      if (end < 0) break;
      const head = waiting.slice(0, end);
      waiting = waiting.slice(end + 4);
      if (/^transfer-encoding:/im.test(head)) throw new Error("A chunked body is not passed on");
      bodyLeft = Number(/^content-length:\s*(\d+)/im.exec(head)?.[1] ?? 0);
      await write(`${admitted(head)}\r\n\r\n`);
    }
  }
  await writer.close();
}
