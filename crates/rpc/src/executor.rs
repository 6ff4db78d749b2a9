//! Runs hyper's tasks where the host says.

use std::future::Future;

use millrace_host::Tasks;

#[derive(Clone)]
pub(crate) struct OnTasks(pub(crate) Tasks);

impl<F> hyper::rt::Executor<F> for OnTasks
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn(task);
    }
}
