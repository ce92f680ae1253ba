/** The app over a test's world, for those who look at its pages. */
import { createApp } from "../../app.ts";
import { BodyKeeper } from "../../models/call_bodies.ts";
import { CallRecorder } from "../../models/calls.ts";
import { Changes } from "../../models/changes.ts";
import type { User } from "../../models/db.ts";
import { createLog } from "../../models/log.ts";
import type { SendMail } from "../../models/mail.ts";
import { openOutside, type Outside } from "../../models/outside.ts";
import { derivedSecrets, newSecretsKeyText, type SecretsKey } from "../../models/secrets.ts";
import { addMember, type openWorld, testKey } from "../models/databases.ts";

export const ORIGIN = "http://127.0.0.1:4680";

type World = Awaited<ReturnType<typeof openWorld>>;

/**
 * The app with no way to a toolbox; to be closed before its world.
 *
 * @param own another address with its identity, mail that is sent, or whatever else is not as usual
 */
export async function openPageApp(
  { db, identity }: Pick<World, "db" | "identity">,
  own: {
    baseUrl?: string;
    sendMail?: SendMail;
    say?: (line: string) => void;
    secretsKey?: SecretsKey;
    outside?: Outside;
  } = {},
) {
  const { secretsKey = testKey } = own;
  const log = createLog("text", own.say ?? (() => {}));
  const calls = new CallRecorder(db, log, new BodyKeeper(db, secretsKey));
  const changes = new Changes(db);
  const { appSigningKey } = await derivedSecrets(newSecretsKeyText());
  const app = await createApp({
    db,
    identity,
    setup: null,
    secretsKey,
    appSigningKey,
    outside: own.outside ?? openOutside(),
    changes,
    links: null,
    calls,
    log,
    sendMail: own.sendMail,
    baseUrl: new URL(own.baseUrl ?? ORIGIN),
    version: "0",
    isMigrated: () => Promise.resolve(true),
  });
  return {
    ...{ app, calls, log, appSigningKey },
    async close() {
      await calls.flush();
      await changes.close();
    },
  };
}

/** A member of the world's workspace, signed in. @returns the cookie of their session */
export async function signedIn(
  world: World,
  role: string,
): Promise<{ cookie: string; person: User }> {
  const { identity, workspaceId } = world;
  const cookie = (await identity.createAccount("bea@example.com", "Bea", "a long enough password"))
    .getSetCookie()[0].split(";")[0];
  const person = (await identity.userOf(new Headers({ cookie })))!;
  await addMember(world, workspaceId, person.userId, role);
  return { cookie, person };
}
