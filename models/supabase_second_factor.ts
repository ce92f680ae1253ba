/**
 * Second factors of Supabase Auth: codes of an authenticator app. The session of somebody who is still to give
 * one is of the level `aal1`, which opens nothing (mooring.supabase_person, mooring.workspaces_as); the code
 * raises it to `aal2`.
 */
import {
  type AuthError,
  isAuthSessionMissingError,
  type SupabaseClient,
} from "@supabase/supabase-js";
import type { Database } from "./db.ts";
import { type Identity, type Person, SecondFactorNeeded, SignInRefused } from "./identity.ts";
import { refusalOf } from "./supabase_refusal.ts";

type Auth = SupabaseClient["auth"];

/** The library over one request's cookies. */
export interface OpenedAuth {
  auth: Auth;
  /** The `Set-Cookie` headers that came of it. @param maxAgeS when browsers forget them, if not their own time */
  cookies(maxAgeS?: number): Headers;
}

/** How long a browser remembers that a code was asked for. */
const ASKED_S = 600;

/**
 * Lets those in who just signed in and have no second factor.
 *
 * @returns the `Set-Cookie` headers to answer with
 * @throws {SecondFactorNeeded} they have an authenticator app
 * @throws {SignInRefused} they have another factor, which is not asked for here
 */
export async function admitted(
  { auth, cookies }: OpenedAuth,
  user: { factors?: { status: string; factor_type: string }[] },
): Promise<Headers> {
  const verified = user.factors?.filter(({ status }) => status === "verified") ?? [];
  if (verified.length === 0) return cookies();
  if (verified.some((factor) => factor.factor_type === "totp")) {
    throw new SecondFactorNeeded(cookies(ASKED_S));
  }
  await auth.signOut({ scope: "local" });
  throw new SignInRefused(
    "This account has a second factor that is no authenticator app: Mooring cannot ask for it, and lets nobody in without it",
  );
}

/** Raises the session to `aal2`. @throws {SignInRefused} a wrong code, too many tries, or the session is over */
export async function passSecondFactor(auth: Auth, code: string): Promise<void> {
  const { totp } = await factorsOf(auth);
  if (totp.length === 0) throw new SignInRefused(TOO_LATE);
  await verify(auth, totp.map(({ id }) => id), code);
}

export function supabaseSecondFactor({ db, open, signedIn, confirmPassword, issuer }: {
  db: Database;
  open: (headers: Headers) => OpenedAuth;
  signedIn: (headers: Headers) => Promise<Person>;
  confirmPassword: (email: string, password: string) => Promise<void>;
  /** What authenticator apps show beside the code. */
  issuer: string;
}): Pick<
  Identity,
  | "hasSecondFactor"
  | "signInWithCode"
  | "makeSecondFactor"
  | "turnOnSecondFactor"
  | "turnOffSecondFactor"
  | "renewBackupCodes"
> {
  return {
    async hasSecondFactor(headers) {
      const { userId } = await signedIn(headers);
      const [{ found }] = await db.asApp`select mooring.has_second_factor(${userId}) as found`;
      return found;
    },

    async signInWithCode(headers, code) {
      const { auth, cookies } = open(headers);
      await passSecondFactor(auth, code);
      return cookies();
    },

    async makeSecondFactor(headers, password) {
      const { email } = await signedIn(headers);
      await confirmPassword(email, password);
      const { auth } = open(headers);
      const { all } = await factorsOf(auth);
      if (all.some(({ status }) => status === "verified")) {
        throw new SignInRefused("There is a second factor already. Turn it off first");
      }
      // Those that were begun and never confirmed: Supabase keeps ten at most.
      for (const { id } of unconfirmed(all)) await unenroll(auth, id);
      const { data, error } = await auth.mfa.enroll({
        factorType: "totp",
        issuer,
        // No two of an account may be called the same.
        friendlyName: `${issuer}, ${new Date().toISOString()}`,
      });
      if (error) throw factorRefusal(error);
      return { uri: data.totp.uri, key: data.totp.secret, backupCodes: [] };
    },

    async turnOnSecondFactor(headers, code) {
      await signedIn(headers);
      const { auth, cookies } = open(headers);
      const { all } = await factorsOf(auth);
      const [made] = unconfirmed(all);
      if (!made) throw new SignInRefused("That took too long. Set it up again");
      await verify(auth, [made.id], code);
      return cookies();
    },

    async turnOffSecondFactor(headers, password) {
      const { email } = await signedIn(headers);
      await confirmPassword(email, password);
      const { auth, cookies } = open(headers);
      for (const { id } of (await factorsOf(auth)).all) await unenroll(auth, id);
      // The token still says that a code was asked for. Where no other is to be had, it ends within the hour.
      await auth.refreshSession();
      return cookies();
    },

    // Supabase's own accounts have none.
    renewBackupCodes: null,
  };
}

const TOO_LATE = "That took too long. Sign in again";

function unconfirmed<F extends { status: string; factor_type: string }>(factors: F[]): F[] {
  return factors.filter((factor) =>
    factor.factor_type === "totp" && factor.status === "unverified"
  );
}

async function factorsOf(auth: Auth) {
  const { data, error } = await auth.mfa.listFactors();
  if (error) throw factorRefusal(error);
  return data;
}

/** Which of several apps a code is of is not said: it is tried with each. */
async function verify(auth: Auth, factorIds: string[], code: string): Promise<void> {
  const plain = code.replaceAll(/\s/g, "");
  for (const factorId of /^\d{6}$/.test(plain) ? factorIds : []) {
    const { error } = await auth.mfa.challengeAndVerify({ factorId, code: plain });
    if (!error) return;
    if (error.code !== "mfa_verification_failed") throw factorRefusal(error);
  }
  throw new SignInRefused(
    "That is not the code of now. Look whether the clocks are right, and try the next",
  );
}

async function unenroll(auth: Auth, factorId: string): Promise<void> {
  const { error } = await auth.mfa.unenroll({ factorId });
  if (error) throw factorRefusal(error);
}

function factorRefusal(error: AuthError): SignInRefused {
  if (isAuthSessionMissingError(error)) return new SignInRefused(TOO_LATE);
  switch (error.code) {
    case "session_not_found":
    case "bad_jwt":
    case "mfa_challenge_expired":
    case "mfa_ip_address_mismatch":
      return new SignInRefused(TOO_LATE);
    case "mfa_totp_enroll_not_enabled":
    case "mfa_totp_verify_not_enabled":
      return new SignInRefused(
        "This Supabase project takes no authenticator apps: its owner turns them on there",
      );
    case "insufficient_aal":
      return new SignInRefused(
        "Another second factor is left. Sign out, sign in with its code, and turn it off then",
      );
    default:
      return refusalOf(error);
  }
}
