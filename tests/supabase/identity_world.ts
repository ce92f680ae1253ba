/** For tests of sign-in through Supabase Auth: a project (fakes of what of it cannot be had), and a browser. */
import type { MailLink, MailLinkType } from "../../models/identity.ts";
import { createLog } from "../../models/log.ts";
import { supabaseIdentity } from "../../models/supabase_identity.ts";
import { SUPABASE } from "../models/databases.ts";
import { type AuthServerOptions, PUBLISHABLE_KEY, startAuthServer } from "./auth_server.ts";

export const FROM = { clientIp: "192.0.2.1", userAgent: "test" };
export const PASSWORD = "a long enough password";
export const EXAMPLE = "https://mooring.example/functions/v1/app";

/** Mooring's identity over a fake of Supabase Auth and the stand-in for its database. */
export async function open(options: Omit<AuthServerOptions, "owner"> = {}, baseUrl = EXAMPLE) {
  const database = await SUPABASE.open();
  const auth = await startAuthServer({ owner: database.owner, siteUrl: baseUrl, ...options });
  const said: string[] = [];
  const identity = supabaseIdentity(database.db, {
    supabaseUrl: new URL(auth.url),
    publishableKey: PUBLISHABLE_KEY,
    baseUrl: new URL(baseUrl),
    ownerEmail: "Owner@example.com",
    log: createLog("text", (line) => said.push(line)),
  });
  return {
    ...database,
    auth,
    identity,
    said,
    async [Symbol.asyncDispose]() {
      await auth.close();
      await database.close();
    },
  };
}

/** A browser's cookies after what it was answered, as its next request carries them. */
export function browser(...answers: Headers[]): Headers {
  const cookies = new Map<string, string>();
  for (const line of answers.flatMap((answer) => answer.getSetCookie())) {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)!;
    if (/max-age=0/i.test(line)) cookies.delete(name);
    else cookies.set(name, value);
  }
  return new Headers({ cookie: [...cookies].map((pair) => pair.join("=")).join("; ") });
}

/** Where a link in a mail leads a browser. */
export async function follow(link: string): Promise<URL> {
  const response = await fetch(link, { redirect: "manual" });
  await response.body?.cancel();
  return new URL(response.headers.get("location")!);
}

/** What a link of our own templates holds. */
export function linkOf(href: string): Required<MailLink> {
  const { searchParams } = new URL(href);
  const of = (name: string) => searchParams.get(name)!;
  return { token: of("token_hash"), type: of("type") as MailLinkType, email: of("email") };
}
