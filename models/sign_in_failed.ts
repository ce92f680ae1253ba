/** Why a sign-in at a remote server came to nothing, in words that are fit for a person. */
import * as oauth from "oauth4webapi";
import { OutsideError } from "./outside.ts";

/** Why signing in, or renewing it, did not work: for a person. */
export class SignInFailed extends Error {
  override name = "SignInFailed";
  /** @param isFinal the same again would fail again: a person has to sign in anew */
  constructor(message: string, readonly isFinal = false) {
    super(message);
  }
}

/** Nothing registers Mooring there: a person has to give a client's id. */
export class ClientNeeded extends SignInFailed {
  override name = "ClientNeeded";
}

/** Error codes with which the same request would be refused again (RFC 6749, section 5.2; RFC 8707). */
const FINAL = [
  ...["invalid_request", "invalid_client", "invalid_grant", "unauthorized_client"],
  ...["unsupported_grant_type", "invalid_scope", "invalid_target"],
];

/** What went wrong at another side, in words for a person. */
export function failed(who: string, error: unknown): SignInFailed {
  if (error instanceof SignInFailed) return error;
  if (error instanceof OutsideError) return new SignInFailed(error.message);
  if (error instanceof oauth.AuthorizationResponseError) {
    const why = error.error === "access_denied" ? "the sign-in was refused" : shown(error.error);
    return new SignInFailed(`${who} says: ${why}${described(error.error_description)}`);
  }
  if (error instanceof oauth.ResponseBodyError) {
    const { error: code, error_description: description } = error;
    return new SignInFailed(
      `${who} refuses: ${shown(code)}${described(description)}`,
      FINAL.includes(code),
    );
  }
  if (error instanceof oauth.WWWAuthenticateChallengeError) {
    return new SignInFailed(`${who} does not take Mooring's client`, true);
  }
  // A library's message names a rule that was broken; it quotes nothing of the answer.
  const message = error instanceof Error ? error.message : String(error);
  return new SignInFailed(`${who} answers against the protocol: ${message.slice(0, 300)}`);
}

function described(description: string | undefined): string {
  return description ? `, "${shown(description)}"` : "";
}

/** Another side's words within a sentence of ours. */
export function shown(text: string): string {
  return text.replaceAll(/[^\x20-\x7e]/g, "?").slice(0, 200);
}
