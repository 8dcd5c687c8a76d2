// @ts-check
/** What this browser keeps of a user: one IndexedDB for each, so that two people at one browser never see each other's. */

const PREFIX = "ecli-chat:";

/** A storage of small texts. A browser may deny it to framed pages by an exception, and any may be full. @param {"localStorage" | "sessionStorage"} kind */
function notes(kind) {
  return {
    /** @param {string} key @returns {string | null} */
    read(key) {
      try {
        return window[kind].getItem(key);
      } catch {
        return null;
      }
    },
    /** @param {string} key @param {string | null} text null or "": it is taken away */
    write(key, text) {
      try {
        if (text) window[kind].setItem(key, text);
        else window[kind].removeItem(key);
      } catch {
        // a browser that keeps nothing, or a text beyond what it keeps
      }
    },
    /** @param {string} start take away every key that begins so */
    forget(start) {
      try {
        for (const key of Object.keys(window[kind])) if (key.startsWith(start)) window[kind].removeItem(key);
      } catch {
        // nothing is kept
      }
    },
  };
}

export const ofBrowser = notes("localStorage");
export const ofTab = notes("sessionStorage");

/** @param {string | number} user */
export const databaseOf = (user) => PREFIX + user;

/** Whether anything of this user is kept here. @param {string | number} user @returns {Promise<boolean>} */
export async function isKept(user) {
  try {
    const all = await indexedDB.databases();
    return all.some((each) => each.name === databaseOf(user));
  } catch {
    return false; // a browser that keeps nothing
  }
}

/** Delete all that is kept of this user. @param {string | number} user @returns {Promise<void>} */
export function forget(user) {
  ofTab.forget(databaseOf(user));
  return new Promise((resolve) => {
    try {
      const asked = indexedDB.deleteDatabase(databaseOf(user));
      asked.onsuccess = asked.onerror = asked.onblocked = () => resolve();
    } catch {
      resolve();
    }
  });
}
