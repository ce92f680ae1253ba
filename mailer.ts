/** Sends Mooring's mail by SMTP: self-hosted alone, since an edge isolate opens no such connections. */
import { createTransport } from "nodemailer";
import type { Config } from "./config.ts";
import type { SendMail } from "./models/mail.ts";

/** A server that does not answer is given up after this time: by nodemailer's own after minutes. */
const TIMEOUT_MS = 15_000;

/**
 * @param mail.smtpUrl `smtps:` is TLS from the start, `smtp:` turns to it where the server offers it;
 *   `smtp://…?requireTLS=true` refuses one that does not
 */
export function openMailer({ smtpUrl, from }: NonNullable<Config["mail"]>): SendMail {
  const transport = createTransport({
    url: smtpUrl,
    connectionTimeout: TIMEOUT_MS,
    greetingTimeout: TIMEOUT_MS,
    socketTimeout: TIMEOUT_MS,
    // What a mail is made of is ours: it names no file and no address to fetch.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  return async ({ to, subject, text }) => {
    // As an object: an address is never read as a list of several.
    await transport.sendMail({ from, to: { name: "", address: to }, subject, text });
  };
}
