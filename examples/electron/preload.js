'use strict';
// The bridge: what the page may call. It is sandboxed, so all of it is in this file.

/** The calls of the main process as functions. */
function bridge(ipcRenderer) {
  let last = 0;

  async function call(name, ...given) {
    const { value, error } = await ipcRenderer.invoke(`chat:${name}`, ...given);
    // Classes do not cross to the page; text and code do.
    if (error) throw Object.assign(new Error(error.message), { code: error.code });
    return value;
  }

  /** An answer, whose pieces `onPiece` gets; gives how it ended. */
  async function stream(name, onPiece, ...given) {
    const id = ++last;
    const listen = (_event, of, piece) => of === id && onPiece(piece);
    ipcRenderer.on('chat:piece', listen);
    try {
      return await call(name, id, ...given);
    } finally {
      ipcRenderer.removeListener('chat:piece', listen);
    }
  }

  return {
    send: (text, onPiece) => stream('send', onPiece, text),
    retry: (onPiece) => stream('retry', onPiece),
    cancel: () => call('cancel'),
    undo: () => call('undo'),
    messages: () => call('messages'),
    save: () => call('save'),
    open: () => call('open'),
  };
}

if (process.versions.electron) {
  const { contextBridge, ipcRenderer } = require('electron');
  contextBridge.exposeInMainWorld('chat', bridge(ipcRenderer));
}

module.exports = { bridge };
