//! Tasks: what runs beside the caller.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::runtime::Handle;
use tokio::sync::mpsc as async_mpsc;
use tokio::task::JoinHandle;
use tokio::time::Duration;

/// Where tasks run; cheap to clone.
#[derive(Clone)]
pub struct Tasks(Kind);

#[derive(Clone)]
enum Kind {
    /// A runtime of its own, with threads for what blocks.
    Runtime(Handle),
    /// Everything on the current thread's runtime, in the order of one seed. A disk worker's
    /// round takes as long as this says.
    Simulated { disk_latency: Latency },
}

/// How long the disk takes this time.
type Latency = Arc<dyn Fn() -> Duration + Send + Sync>;

impl Tasks {
    /// Tasks of this runtime.
    pub fn on(runtime: Handle) -> Tasks {
        Tasks(Kind::Runtime(runtime))
    }

    /// Tasks of a simulation: nothing leaves the current thread.
    pub fn simulated(disk_latency: Duration) -> Tasks {
        Tasks::simulated_by(move || disk_latency)
    }

    /// The same with a disk that takes another time each time.
    pub fn simulated_by(disk_latency: impl Fn() -> Duration + Send + Sync + 'static) -> Tasks {
        let disk_latency = Arc::new(disk_latency);
        Tasks(Kind::Simulated { disk_latency })
    }

    /// Runs `task` beside the caller until it ends or its handle aborts it; dropping the handle
    /// lets it run on.
    pub fn spawn<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.0 {
            Kind::Runtime(runtime) => runtime.spawn(task),
            Kind::Simulated { .. } => tokio::spawn(task),
        }
    }

    /// Runs what may wait for a disk, off the threads that serve sockets.
    ///
    /// # Panics
    /// If `work` does.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        match &self.0 {
            Kind::Runtime(runtime) => runtime
                .spawn_blocking(work)
                .await
                .expect("blocking work does not panic"),
            Kind::Simulated { disk_latency } => {
                tokio::time::sleep(disk_latency()).await;
                work()
            }
        }
    }

    /// Lets whoever waits for this processor have it. For long work that nobody waits for, on a thread
    /// where it may block: a thread that wakes up does not interrupt the one that runs, but for
    /// milliseconds waits until that has used up its turn.
    pub fn give_way(&self) {
        match &self.0 {
            Kind::Runtime(_) => thread::yield_now(),
            Kind::Simulated { .. } => {}
        }
    }

    /// Starts a worker: `handle` gets all jobs that came while it was busy with the last ones, in
    /// the order of submission, and may block. It ends when every [`Worker`] is dropped and the
    /// jobs submitted until then are done. In production it is a thread named `name`.
    pub fn worker<J: Send + 'static>(
        &self,
        name: &str,
        mut handle: impl FnMut(Vec<J>) + Send + 'static,
    ) -> Worker<J> {
        match &self.0 {
            Kind::Runtime(_) => {
                let (sender, receiver) = mpsc::channel::<J>();
                thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(move || {
                        while let Ok(first) = receiver.recv() {
                            let mut jobs = vec![first];
                            jobs.extend(receiver.try_iter());
                            handle(jobs);
                        }
                    })
                    .expect("the system grants a thread at start");
                Worker(Jobs::Thread(sender))
            }
            Kind::Simulated { disk_latency } => {
                let disk_latency = disk_latency.clone();
                let (sender, mut receiver) = async_mpsc::unbounded_channel::<J>();
                tokio::spawn(async move {
                    while let Some(first) = receiver.recv().await {
                        tokio::time::sleep(disk_latency()).await;
                        let mut jobs = vec![first];
                        while let Ok(job) = receiver.try_recv() {
                            jobs.push(job);
                        }
                        handle(jobs);
                    }
                });
                Worker(Jobs::Task(sender))
            }
        }
    }
}

/// Takes jobs for one worker. What is queued must be bounded by whoever submits it.
pub struct Worker<J>(Jobs<J>);

enum Jobs<J> {
    Thread(mpsc::Sender<J>),
    Task(async_mpsc::UnboundedSender<J>),
}

impl<J> Clone for Worker<J> {
    fn clone(&self) -> Self {
        Worker(match &self.0 {
            Jobs::Thread(sender) => Jobs::Thread(sender.clone()),
            Jobs::Task(sender) => Jobs::Task(sender.clone()),
        })
    }
}

impl<J> Worker<J> {
    /// Hands over a job; never blocks. False when the worker has ended.
    pub fn submit(&self, job: J) -> bool {
        match &self.0 {
            Jobs::Thread(sender) => sender.send(job).is_ok(),
            Jobs::Task(sender) => sender.send(job).is_ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    async fn every_job_is_done_in_order(tasks: Tasks) {
        let done = Arc::new(Mutex::new(Vec::new()));
        let (ended, end) = tokio::sync::oneshot::channel();
        let mut ended = Some(ended);
        let worker = tasks.worker("jobs", {
            let done = done.clone();
            move |jobs: Vec<u32>| {
                let mut done = done.lock().unwrap();
                done.extend(jobs);
                if done.len() == 100
                    && let Some(ended) = ended.take()
                {
                    ended.send(()).unwrap();
                }
            }
        });
        for job in 0..100 {
            assert!(worker.submit(job));
        }
        end.await.unwrap();
        assert_eq!(*done.lock().unwrap(), (0..100).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_thread_does_every_job_in_order() {
        every_job_is_done_in_order(Tasks::on(Handle::current())).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_worker_does_every_job_in_order() {
        every_job_is_done_in_order(Tasks::simulated(Duration::from_millis(3))).await;
    }
}
