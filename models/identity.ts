/**
 * Who is signed in. One interface; self-hosted it is better-auth over the app's own database
 * (local_identity.ts), on Supabase it will be Supabase Auth.
 */

export interface Person {
  userId: string;
  email: string;
  name: string;
}

export interface Identity {
  /** The person whose session the request's cookies carry, or null. */
  userOf(headers: Headers): Promise<Person | null>;
  /** False until the first account is made: then the set-up page is open. */
  hasAccounts(): Promise<boolean>;
  /**
   * Signs in. Returns the `Set-Cookie` headers to answer with.
   *
   * @throws {SignInRefused} wrong password, unknown address (the same words) or too many tries
   */
  signIn(email: string, password: string, from: SignInSource): Promise<Headers>;
  /** Ends the session of the request's cookies. Returns the `Set-Cookie` headers to answer with. */
  signOut(headers: Headers): Promise<Headers>;
  /**
   * Makes an account and signs it in; the first of all becomes the owner of the first workspace.
   *
   * @throws {SignInRefused} with what is wrong with the address or the password
   */
  createAccount(email: string, name: string, password: string): Promise<Headers>;
  /** Changes the name of whoever the request's cookies are of. */
  rename(headers: Headers, name: string): Promise<void>;
  /**
   * Changes the password, and ends every other session: whoever knew the old one is out.
   * Returns the `Set-Cookie` headers to answer with.
   *
   * @throws {SignInRefused} the present one is wrong, the new one does not hold, or too many tries
   */
  changePassword(
    headers: Headers,
    passwords: { present: string; next: string },
    from: SignInSource,
  ): Promise<Headers>;
  /** The sessions of whoever the request's cookies are of, the one in use last first. */
  listSessions(headers: Headers): Promise<Session[]>;
  /** Ends a session of theirs; an unknown one, or another person's, is left alone. */
  endSession(headers: Headers, sessionId: string): Promise<void>;
  /** Ends all of their sessions, this one too. Returns the `Set-Cookie` headers to answer with. */
  endAllSessions(headers: Headers): Promise<Headers>;
}

/** Where a person is signed in. Never with its token, which is as good as their password. */
export interface Session {
  id: string;
  userAgent: string;
  clientIp: string;
  since: Date;
  lastUsedAt: Date;
  expiresAt: Date;
  isThis: boolean;
}

/** What stands in the way of signing in or of making an account, for a person. */
export class SignInRefused extends Error {
  override name = "SignInRefused";
  constructor(message: string, readonly retryAfterS?: number) {
    super(message);
  }
}

/** Where a sign-in comes from: tries are counted by address. */
export interface SignInSource {
  clientIp: string;
  userAgent: string;
}

/** Shortest password, in characters (NIST SP 800-63B asks for at least 8). */
export const PASSWORD_MIN_LENGTH = 10;
