import { type AuthError, isAuthRetryableFetchError } from "@supabase/supabase-js";
import { SignInRefused } from "./identity.ts";

/** What Supabase Auth refused, in words for a person; its own only where they help. */
export function refusalOf(
  error: AuthError,
  wrongPassword = "The email address or the password is wrong",
): SignInRefused {
  if (isAuthRetryableFetchError(error)) {
    return new SignInRefused("Supabase Auth does not answer just now. Try it again in a minute");
  }
  if (error.status === 429) {
    return new SignInRefused("Too many tries. Wait a minute and try again", 60);
  }
  switch (error.code) {
    case "invalid_credentials":
      return new SignInRefused(wrongPassword);
    case "email_not_confirmed":
      return new SignInRefused("Confirm your address first: open the link that was sent to it");
    case "email_exists":
    case "user_already_exists":
      return new SignInRefused("Another account has this address");
    case "same_password":
      return new SignInRefused("That is your password already");
    case "signup_disabled":
      return new SignInRefused(
        "This Supabase project lets nobody sign up. Ask its owner for an account",
      );
    case "reauthentication_needed":
    case "session_not_found":
    case "session_expired":
      return new SignInRefused("Your sign-in is too old for that. Sign out, sign in and try again");
    default:
      return new SignInRefused(error.message.slice(0, 300));
  }
}

/** Of what a link or another site brought back. */
export function linkRefusal(error: AuthError): SignInRefused {
  if (isAuthRetryableFetchError(error) || error.status === 429) return refusalOf(error);
  return new SignInRefused(
    "The link was used, is too old, or was asked for in another browser. Ask for another one here",
  );
}
