//! Work on other threads. JavaScript numbers its calls; a reply has the number of its call.
//!
//! Each JavaScript thread has one `Calls`. When the thread ends, its work is told to stop and waited for; when the process ends, so are
//! the devices. A process whose driver still computes while it exits can crash.

use crate::errors::{Failure, Outcome, Problem};
use napi::bindgen_prelude::{Function, ToNapiValue, Unknown};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, Status};
use napi_derive::napi;
use peregrine::{Error, gpu};
use peregrine_bindings::Place;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// How long an exit waits for work that was told to stop, and then for devices.
const PATIENCE: Duration = Duration::from_secs(5);

/// Tells JavaScript that there are replies. It does not keep the process alive: `lib/calls.js` does, while calls wait.
type Bell = ThreadsafeFunction<(), (), (), Status, false, true>;

/// A result's form in JavaScript, made on its thread.
type Value = Box<dyn for<'env> FnOnce(&'env Env) -> napi::Result<Unknown<'env>> + Send>;

/// The calls of one JavaScript thread that other threads work on, and their replies.
#[napi]
pub struct Calls(Arc<Desk>);

/// What threads share of [`Calls`].
#[derive(Default)]
pub struct Desk {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// `None`: the JavaScript thread has ended.
    bell: Option<Bell>,
    news: VecDeque<News>,
    /// What stops the work of each call.
    working: HashMap<u32, Box<dyn Fn() + Send>>,
}

/// What JavaScript is to be told about a call.
enum News {
    Note { call: u32, note: String },
    Progress { call: u32, stage: &'static str, done: u64, total: u64 },
    End { call: u32, outcome: Outcome<Value> },
}

/// News in JavaScript.
#[napi(object, object_from_js = false)]
pub struct Reply<'env> {
    pub call: u32,
    /// While it goes on: what is worth knowing.
    pub note: Option<String>,
    /// While it goes on: how far it is.
    pub progress: Option<CallProgress>,
    /// Where it failed: why.
    pub problem: Option<Problem>,
    /// Else its result.
    pub value: Option<Unknown<'env>>,
}

/// How far a call is.
#[napi(object, object_from_js = false)]
pub struct CallProgress {
    pub stage: &'static str,
    pub done: f64,
    pub total: f64,
}

impl Calls {
    pub fn desk(&self) -> &Arc<Desk> {
        &self.0
    }
}

#[napi]
impl Calls {
    /// `bell` is called when there are replies.
    #[napi(constructor, catch_unwind)]
    pub fn new(env: Env, bell: Function<'_, (), ()>) -> napi::Result<Self> {
        let bell = bell.build_threadsafe_function::<()>().weak::<true>().build()?;
        let desk = Arc::new(Desk::default());
        desk.lock().bell = Some(bell);
        // Hooks run in reverse order: this one before that of the bell, so that no thread rings a bell that is gone.
        env.add_env_cleanup_hook(desk.clone(), |desk| desk.close())?;
        Ok(Calls(desk))
    }

    /// The next reply, if there is one.
    #[napi(catch_unwind)]
    pub fn reply<'env>(&self, env: &'env Env) -> Option<Reply<'env>> {
        let reply = |call| Reply { call, note: None, progress: None, problem: None, value: None };
        let news = self.0.lock().news.pop_front()?;
        let (call, outcome) = match news {
            News::Note { call, note } => return Some(Reply { note: Some(note), ..reply(call) }),
            News::Progress { call, stage, done, total } => {
                let progress = CallProgress { stage, done: done as f64, total: total as f64 };
                return Some(Reply { progress: Some(progress), ..reply(call) });
            }
            News::End { call, outcome } => (call, outcome),
        };
        let value =
            outcome.and_then(|value| value(env).map_err(|error| Failure::Panic(format!("a result is lost: {error}"))));
        Some(match value {
            Ok(value) => Reply { value: Some(value), ..reply(call) },
            Err(failure) => Reply { problem: Some(failure.problem()), ..reply(call) },
        })
    }

    /// Ends all work, before the process exits.
    #[napi(catch_unwind)]
    pub fn exit(&self) {
        self.0.close();
        gpu::settle(PATIENCE);
    }

    /// Tells the work of a call to stop. It replies as soon as it does.
    #[napi(catch_unwind)]
    pub fn stop(&self, call: u32) {
        if let Some(stop) = self.0.lock().working.get(&call) {
            stop();
        }
    }
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Works on a call in a thread of its own. `stop` ends the work early, from any thread. Panics become failures.
    pub fn begin<T: ToNapiValue + Send + 'static>(
        self: &Arc<Self>,
        call: u32,
        stop: impl Fn() + Send + 'static,
        work: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) {
        {
            let mut state = self.lock();
            if state.bell.is_none() {
                return;
            }
            state.working.insert(call, Box::new(stop));
        }
        let desk = self.clone();
        let worker = move || {
            let outcome = catch_unwind(AssertUnwindSafe(work));
            desk.end(call, outcome.unwrap_or_else(|payload| Err(Failure::of_panic(payload))));
        };
        if let Err(problem) = std::thread::Builder::new().name("peregrine".to_owned()).spawn(worker) {
            self.end(call, Err::<T, _>(Failure::Panic(format!("no thread can be started: {problem}"))));
        }
    }

    /// A call of what is kept in a place.
    pub fn call<T: Send + 'static, R: ToNapiValue + Send + 'static>(
        self: &Arc<Self>,
        call: u32,
        place: &Arc<Place<T>>,
        work: impl FnOnce(&mut T) -> Outcome<R> + Send + 'static,
    ) {
        match place.take() {
            Ok(mut taken) => {
                let cancel = place.cancel_handle().clone();
                // The stop may come before the call that it is to cancel.
                let stop = Arc::new(AtomicBool::new(false));
                let stopped = stop.clone();
                let stop = move || {
                    stop.store(true, Ordering::Relaxed);
                    cancel.cancel();
                };
                self.begin(call, stop, move || match stopped.load(Ordering::Relaxed) {
                    true => Err(Error::Cancelled.into()),
                    false => work(taken.it()),
                });
            }
            Err(refused) => self.end(call, Err::<R, _>(refused.into())),
        }
    }

    /// Ends a call that needs no work.
    pub fn end<T: ToNapiValue + Send + 'static>(&self, call: u32, outcome: Outcome<T>) {
        let value = |value: T| -> Value { Box::new(move |env| value.into_unknown(env)) };
        let outcome = outcome.map(value);
        let mut state = self.lock();
        state.working.remove(&call);
        self.tell(&mut state, News::End { call, outcome });
        self.ended.notify_all();
    }

    /// How far a call is.
    pub fn progress(&self, call: u32, stage: &'static str, done: u64, total: u64) {
        self.tell(&mut self.lock(), News::Progress { call, stage, done, total });
    }

    /// What is worth knowing about a call's result.
    pub fn note(&self, call: u32, note: String) {
        self.tell(&mut self.lock(), News::Note { call, note });
    }

    fn tell(&self, state: &mut State, news: News) {
        let Some(bell) = &state.bell else { return };
        state.news.push_back(news);
        bell.call((), ThreadsafeFunctionCallMode::NonBlocking);
    }

    /// The JavaScript thread ends.
    fn close(&self) {
        let mut state = self.lock();
        let Some(bell) = state.bell.take() else { return };
        for stop in state.working.values() {
            stop();
        }
        let waited = self.ended.wait_timeout_while(state, PATIENCE, |state| !state.working.is_empty());
        let (mut state, _) = waited.unwrap_or_else(|e| e.into_inner());
        let news = std::mem::take(&mut state.news);
        drop(state);
        // Without the lock: a result may be a session, whose end takes a while.
        drop((news, bell));
    }
}
