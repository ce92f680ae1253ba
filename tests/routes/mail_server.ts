/** A real SMTP server on the loopback address, which keeps what it is given. */
import { SMTPServer } from "npm:smtp-server@3.21.6";
import { Buffer } from "node:buffer";
import { freePort } from "../free_port.ts";

export interface Received {
  from: string;
  to: string[];
  /** Headers and text as they came, with quoted-printable undone. */
  text: string;
}

export async function startMailServer() {
  const port = freePort();
  const mails: Received[] = [];
  const waiting: (() => void)[] = [];
  const server = new SMTPServer({
    authOptional: true,
    disabledCommands: ["STARTTLS", "AUTH"],
    // deno-lint-ignore no-explicit-any
    async onData(stream: any, session: any, done: () => void) {
      const parts: Uint8Array[] = [];
      for await (const part of stream) parts.push(part);
      mails.push({
        from: session.envelope.mailFrom.address,
        to: session.envelope.rcptTo.map(({ address }: { address: string }) => address),
        text: unquoted(Buffer.concat(parts).toString()),
      });
      done();
      for (const look of waiting.splice(0)) look();
    },
  });
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", () => resolve()));
  return {
    url: `smtp://127.0.0.1:${port}`,
    mails,
    /** The next mail to an address, from the first that nobody took yet. */
    async taken(to: string): Promise<Received> {
      for (;;) {
        const at = mails.findIndex((mail) => mail.to.includes(to));
        if (at >= 0) return mails.splice(at, 1)[0];
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
    },
    close: () => new Promise<void>((resolve) => server.close(() => resolve())),
  };
}

function unquoted(text: string): string {
  return text.replaceAll("=\r\n", "").replaceAll(
    /=([0-9A-F]{2})/g,
    (_, hex) => String.fromCharCode(parseInt(hex, 16)),
  );
}
