/**
 * `deno task reset-password ann@example.com`: prints a link by which a new password is chosen, for whoever
 * has the machine and no mail. It is better-auth's own, made in the database that Mooring works with.
 */
import { readConfig } from "./config.ts";
import { lock, prepareDirectory, StartError } from "./data_directory.ts";
import { openDatabase } from "./database.ts";
import { localIdentity } from "./models/local_identity.ts";
import type { Mail } from "./models/mail.ts";

/** @param words what stands behind `reset-password` on the command line */
export async function resetPassword(words: string[]): Promise<void> {
  const [email = ""] = words;
  if (words.length !== 1 || !email.includes("@")) {
    throw new StartError("Usage: deno task reset-password ann@example.com");
  }
  const config = readConfig(Deno.env.toObject(), Deno.env.get("HOME") ?? Deno.cwd());
  const unlock = config.databaseUrl ? () => {} : await alone(config.dataDirectory);
  const database = await openDatabase(config, () => {});
  const mails: Mail[] = [];
  const identity = localIdentity(database.db, {
    // A link holds no signature: what it is checked against is in the database.
    secret: crypto.randomUUID() + crypto.randomUUID(),
    baseUrl: config.baseUrl,
    sendMail: (mail) => Promise.resolve(void mails.push(mail)),
    // They fill no mailbox: whoever has the machine reads them here.
    openPasswordLinks: Infinity,
  });
  await identity.sendPasswordLink(email, { clientIp: "127.0.0.1", userAgent: "reset-password" });
  await database.close();
  unlock();
  if (mails.length === 0) throw new StartError(`There is no account with the address ${email}`);
  const link = mails[0].text.split("\n").find((line) => line.startsWith("http"));
  console.log(
    `Open this within an hour to choose a new password for ${email}. It works once:\n${link}`,
  );
  if (!config.databaseUrl) console.log("Start Mooring again first: deno task start");
}

/** The embedded database is one process's. */
async function alone(dataDirectory: string): Promise<() => void> {
  await prepareDirectory(dataDirectory);
  try {
    return await lock(dataDirectory);
  } catch (error) {
    if (!(error instanceof StartError)) throw error;
    throw new StartError(
      "Mooring runs, and its embedded database is its own meanwhile. Stop it (Ctrl-C; containers keep " +
        "running), run this again, and start it",
    );
  }
}
