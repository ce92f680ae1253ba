/**
 * Who is signed in. One interface; self-hosted it is better-auth over the app's own database
 * (local_identity.ts), on Supabase it is Supabase Auth (supabase_identity.ts).
 */
import type { AuthorizationServer, ForeignAuthorizationServer } from "./authorization_server.ts";

export interface Person {
  userId: string;
  email: string;
  name: string;
}

/** Whose an access token of the accounts' is: a person's own, or a client's that signed one in. */
export type Sender = { expiresAt: Date } & ({ person: Person } | { client: ClientSession });

export interface ClientSession {
  clientId: string;
  userId: string;
  sessionId: string;
  /** The addresses of the bridge that the token is for. */
  resources: string[];
  /** Ends its sign-in where it was made, so that it asks its person again; a failure is logged. */
  end(): Promise<void>;
}

export interface Identity {
  /** The person whose session the request's cookies carry, or null. */
  userOf(headers: Headers): Promise<Person | null>;
  /** The person of an access token that programs send as a bearer; null where accounts have none such. */
  personOf(accessToken: string): Promise<Person | null>;
  /**
   * Who brings an access token to the bridge, where clients have such tokens too; null when it opens nothing.
   * Left out where accounts have no access tokens.
   */
  senderOf?(accessToken: string): Promise<Sender | null>;
  /** Renews the session of the request's cookies where its time is nearly over; null where it is not. */
  renew(headers: Headers): Promise<Renewal | null>;
  /** False until the first account is made: then the set-up page is open. */
  hasAccounts(): Promise<boolean>;
  /**
   * Signs in. Returns the `Set-Cookie` headers to answer with.
   *
   * @throws {SignInRefused} wrong password, unknown address (the same words) or too many tries
   * @throws {SecondFactorNeeded} the password is right, and the account asks for a code as well
   */
  signIn(email: string, password: string, from: SignInSource): Promise<Headers>;
  /**
   * Signs in whom {@link SecondFactorNeeded} asked for a code: one of their app's, or a backup code (where
   * there are such), which serves once. Returns the `Set-Cookie` headers to answer with.
   *
   * @param headers with the cookies that came with the question
   * @throws {SignInRefused} a wrong code, too many tries, or the question is too old
   */
  signInWithCode(headers: Headers, code: string, from: SignInSource): Promise<Headers>;
  /** Ends the session of the request's cookies. Returns the `Set-Cookie` headers to answer with. */
  signOut(headers: Headers): Promise<Headers>;
  /**
   * Makes an account and signs it in; the first of all becomes the owner of the first workspace.
   *
   * @throws {SignInRefused} with what is wrong with the address or the password
   * @throws {ConfirmationNeeded} nobody is signed in before the address is shown to be theirs
   */
  createAccount(email: string, name: string, password: string): Promise<Headers>;
  /** Changes the name of whoever the request's cookies are of. */
  rename(headers: Headers, name: string): Promise<void>;
  /**
   * Changes the address that they sign in with. The one before is told where mail is sent, and a link
   * that was sent there to choose a new password opens nothing any more.
   *
   * @returns `asked` where it changes only once the new address is shown to be theirs
   * @throws {SignInRefused} the password is wrong, too many tries, or another account has the address
   */
  changeEmail(
    headers: Headers,
    wish: { email: string; password: string },
    from: SignInSource,
  ): Promise<"changed" | "asked">;
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
  /** The sessions of whoever the request's cookies are of, the one in use last first; null: not to be had. */
  listSessions(headers: Headers): Promise<Session[] | null>;
  /** Ends a session of theirs; an unknown one, or another person's, is left alone. */
  endSession(headers: Headers, sessionId: string): Promise<void>;
  /** Ends all of their sessions, this one too. Returns the `Set-Cookie` headers to answer with. */
  endAllSessions(headers: Headers): Promise<Headers>;
  /** Whether the account of the request's cookies asks for a code at sign-in; null where none can. */
  hasSecondFactor(headers: Headers): Promise<boolean | null>;
  /**
   * Makes a key for an authenticator app; nothing asks for its codes before {@link turnOnSecondFactor}.
   *
   * @throws {SignInRefused} the password is wrong, too many tries, or there is a second factor already
   */
  makeSecondFactor(
    headers: Headers,
    password: string,
    from: SignInSource,
  ): Promise<SecondFactor>;
  /** From now on sign-in asks for a code. Returns cookies. @throws {SignInRefused} a wrong code */
  turnOnSecondFactor(headers: Headers, code: string, from: SignInSource): Promise<Headers>;
  /** Sign-in asks for no code any more. Returns cookies. @throws {SignInRefused} a wrong password */
  turnOffSecondFactor(headers: Headers, password: string, from: SignInSource): Promise<Headers>;
  /**
   * Other backup codes; those before serve no more. Null where there are none.
   *
   * @throws {SignInRefused} a wrong password
   */
  renewBackupCodes:
    | ((headers: Headers, password: string, from: SignInSource) => Promise<string[]>)
    | null;

  /** Whether {@link sendPasswordLink} sends anything. */
  sendsMail: boolean;
  /**
   * Sends a link to choose a new password, good for an hour and once. Whether the address has an account
   * is told to its owner alone. Returns the `Set-Cookie` headers to answer with.
   *
   * @throws {SignInRefused} too many tries
   */
  sendPasswordLink(email: string, from: SignInSource): Promise<Headers>;
  /**
   * Sets a new password by a link, and ends all sessions of the account. Returns the `Set-Cookie` headers to
   * answer with.
   *
   * @param headers with the cookies that came when the link was asked for, or with the question for a code
   * @throws {SignInRefused} the link was used or is too old, the password does not hold, too many tries
   * @throws {SecondFactorNeeded} the link is right, and spent; the account asks for a code as well
   */
  resetPassword(headers: Headers, wish: PasswordWish, from: SignInSource): Promise<Headers>;

  /** Null where the app's address can have no passkeys. */
  passkeys: Passkeys | null;

  /** What signs MCP clients in; left out where nothing does, and clients bring an agent's token. */
  authorizationServer?: AuthorizationServer;
  /** One that is not Mooring's, and has a person's word from Mooring's page; in place of the one above. */
  foreignAuthorizationServer?: ForeignAuthorizationServer;
  /** Null where a password and passkeys are all that there is. */
  elsewhere: SignInElsewhere | null;
}

/** Sign-in that leads through a mailbox or another site, and ends in the browser that it began in. */
export interface SignInElsewhere {
  /** What there is, as it is set now. */
  offers(): Promise<SignInOffers>;
  /**
   * Sends a link that signs in. Whether the address has an account is told to its owner alone. Returns the
   * `Set-Cookie` headers to answer with.
   *
   * @param next the path to go on to
   * @throws {SignInRefused} too many tries
   */
  sendLink(email: string, next: string): Promise<Headers>;
  /** Where another site signs in. @throws {SignInRefused} it is none of those on offer */
  begin(provider: string, next: string): Promise<{ url: string; cookies: Headers }>;
  /**
   * Signs in whoever comes back. Returns the `Set-Cookie` headers to answer with.
   *
   * @throws {SignInRefused} it was given up, is too old, or began in another browser
   * @throws {SecondFactorNeeded} the account asks for a code as well
   */
  finish(headers: Headers, query: URLSearchParams): Promise<Headers>;
  /**
   * Signs in by a link that any browser may open; who was signed in here is signed out. Returns the
   * `Set-Cookie` headers to answer with.
   *
   * @throws {SignInRefused} it was used, is too old, or of another account than it says
   * @throws {SecondFactorNeeded} the account asks for a code as well
   */
  confirm(headers: Headers, link: MailLink): Promise<Headers>;
  /**
   * Changes an address by the link that was sent to it; signs nobody in.
   *
   * @returns `asked` where the link that was sent to the other address is to be opened as well
   * @throws {SignInRefused} it was used or is too old
   */
  confirmEmail(link: MailLink): Promise<"changed" | "asked">;
}

/** What a link in a mail holds. */
export interface MailLink {
  token: string;
  /** What the link is for; left out of one that opens in the browser alone that asked for it. */
  type?: MailLinkType;
  /** Whose it says it is: anybody can write that, so it is held against the account before it counts. */
  email?: string;
}

export const MAIL_LINK_TYPES = ["email", "invite", "recovery", "email_change"] as const;
export type MailLinkType = typeof MAIL_LINK_TYPES[number];

export interface PasswordWish {
  link: MailLink;
  password: string;
  /** Given once {@link SecondFactorNeeded} asked for it: the link was spent then, and does not count any more. */
  code?: string;
}

export interface SignInOffers {
  /** By password and by a link, both of which go by an address. */
  byEmail: boolean;
  providers: { id: string; name: string }[];
}

/** A session that goes on. */
export interface Renewal {
  /** The `Set-Cookie` headers to answer with. */
  cookies: Headers;
  /** The request's, with the cookies of now. */
  headers: Headers;
}

/**
 * Keys that an authenticator holds and unlocks by its own PIN or by its owner's looks (WebAuthn): each
 * signs in by itself. What goes to the browser's `navigator.credentials` and comes from it is theirs, as
 * WebAuthn's JSON.
 */
export interface Passkeys {
  /** Those of whoever the request's cookies are of, oldest first. */
  list(headers: Headers): Promise<Passkey[]>;
  /**
   * Asks a browser to make one.
   *
   * @throws {SignInRefused} the password is wrong, or too many tries
   */
  beginAdding(headers: Headers, password: string, from: SignInSource): Promise<PasskeyQuestion>;
  /** Keeps the one that was made. @throws {SignInRefused} it is no answer to the question, or too late */
  add(headers: Headers, name: string, answer: unknown, from: SignInSource): Promise<void>;
  /** Gives one another name; an unknown one, or another person's, is left alone. */
  rename(headers: Headers, id: string, name: string): Promise<void>;
  /** Removes one likewise. @throws {SignInRefused} it is the last way into the account */
  remove(headers: Headers, id: string): Promise<void>;
  /** Asks whoever is at a browser for one. @throws {SignInRefused} too many tries */
  beginSignIn(from: SignInSource): Promise<PasskeyQuestion>;
  /** Signs in. Returns the `Set-Cookie` headers. @throws {SignInRefused} unknown, or no answer */
  signIn(headers: Headers, answer: unknown, from: SignInSource): Promise<Headers>;
}

export interface Passkey {
  id: string;
  name: string;
  /** It is kept by an account, such as a password manager's, and not by one device alone. */
  isSynced: boolean;
  since: Date;
  lastUsedAt: Date | null;
}

/** What a browser is asked, and the `Set-Cookie` headers by which its answer is known. */
export interface PasskeyQuestion {
  options: unknown;
  cookies: Headers;
}

/** What a person puts into their authenticator app (RFC 6238), and keeps for when it is lost. */
export interface SecondFactor {
  /** `otpauth:` */
  uri: string;
  /** The key in base32, to type. */
  key: string;
  /** None where there are no such codes. */
  backupCodes: string[];
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

/** The first proof was right; nobody is signed in before {@link Identity.signInWithCode}. */
export class SecondFactorNeeded extends Error {
  override name = "SecondFactorNeeded";
  /** @param cookies the `Set-Cookie` headers to ask with */
  constructor(readonly cookies: Headers) {
    super("Sign-in needs a code as well");
  }
}

/** The account is made; its person confirms the address by a link that was sent there, and signs in. */
export class ConfirmationNeeded extends Error {
  override name = "ConfirmationNeeded";
  /** @param cookies the `Set-Cookie` headers to answer with */
  constructor(readonly cookies: Headers) {
    super("The address needs to be confirmed");
  }
}

/** Where a sign-in comes from: tries are counted by address. */
export interface SignInSource {
  clientIp: string;
  userAgent: string;
}

/** Shortest password, in characters (NIST SP 800-63B asks for at least 8). */
export const PASSWORD_MIN_LENGTH = 10;
