'use strict';
// The main process: it has the model, and a conversation for each window. Nothing here blocks it.

const { readFile, writeFile } = require('node:fs/promises');
const { join } = require('node:path');
const peregrine = require('peregrine');

/**
 * Answers the renderers' calls; `file` is where a conversation is saved. An error of peregrine goes over as a value: Electron keeps only
 * the text of what a handler throws.
 */
function serve(ipcMain, model, file) {
  const chats = new Map();

  /** The conversation of the window that calls. */
  function chatOf(sender) {
    if (!chats.has(sender.id)) {
      const chat = model.chat();
      chats.set(sender.id, chat);
      const forget = () => chats.delete(sender.id) && chat.then((session) => session.close());
      chat.catch(() => chats.delete(sender.id));
      sender.once('destroyed', forget);
    }
    return chats.get(sender.id);
  }

  const handle = (name, work) =>
    ipcMain.handle(`chat:${name}`, async ({ sender }, ...given) => {
      try {
        return { value: await work(await chatOf(sender), sender, ...given) };
      } catch (error) {
        if (!(error instanceof peregrine.PeregrineError)) throw error;
        return { error: { code: error.code, message: error.message } };
      }
    });

  /** Sends the pieces of an answer as they come; gives how it ended. */
  async function stream(answer, sender, id) {
    for await (const piece of answer) {
      if (sender.isDestroyed()) break;
      sender.send('chat:piece', id, piece);
    }
    return answer.finish;
  }

  handle('send', (session, sender, id, text) => stream(session.send(text), sender, id));
  handle('retry', (session, sender, id) => stream(session.retry(), sender, id));
  handle('cancel', (session) => session.cancel());
  handle('undo', (session) => session.undo());
  handle('messages', (session) => session.messages);
  handle('save', async (session) => writeFile(file, await session.snapshot()));
  handle('open', async (session) => {
    await session.restore(await readFile(file));
    return session.messages;
  });
}

async function start({ app, BrowserWindow, dialog, ipcMain }) {
  await app.whenReady();
  const window = new BrowserWindow({ width: 720, height: 640, webPreferences: { preload: join(__dirname, 'preload.js') } });
  app.on('window-all-closed', () => app.quit());
  try {
    // A path or a name on the Hugging Face hub; without one it is tiny-chat, which ships with the package.
    const onProgress = (_stage, done, total) => window.isDestroyed() || window.setProgressBar(total ? done / total : -1);
    const model = await peregrine.load(process.env.MODEL, { onProgress });
    serve(ipcMain, model, join(app.getPath('userData'), 'chat.state'));
    window.setProgressBar(-1);
    await window.loadFile('index.html');
  } catch (error) {
    dialog.showErrorBox('No model', error.message);
    app.quit();
  }
}

if (process.versions.electron) start(require('electron'));

module.exports = { serve };
