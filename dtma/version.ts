/** What this build of DTMA calls itself, to the app and to servers. */
export const DTMA_VERSION = "0.1.0";
