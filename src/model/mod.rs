//! Plain data: what the words of the project mean, without I/O and without a clock.
//!
//! Everything here can be imported by every other layer. Types that are stored serialise to the JSON that
//! `git show refs/orchestra/state:tasks/…` prints; integers only, so that equal content is an equal blob.

mod agent;
mod asked;
mod budget;
mod decision;
mod event;
mod finding;
mod id;
mod merge;
mod object_id;
mod overlap;
mod pipeline;
mod receipt;
mod sandbox;
mod task;
mod time;
mod usage;

pub use agent::{Agent, Outcome, Run, StepOf};
pub use asked::{Asked, AskedOption};
pub use budget::{Budget, Measure, Scope, Spending, Standing};
pub use decision::{Answer, Choice, ChoiceLoss, Clash, Decision, DecisionKind, DecisionStatus};
pub use event::{Event, EventKind, ToolTarget};
pub use finding::{Anchor, Finding, FindingStatus, Severity};
pub use id::{Id, IdError, Kind, Name, NameError};
pub use merge::{
    Conflict, GateOutcome, GateRun, Mend, MendOutcome, Merge, MergeStatus, PlanScore, Resolution, Side, Step,
    StepStatus,
};
pub use object_id::{ObjectId, ObjectIdError};
pub use overlap::{FileOverlap, Forecast, LineRange, Pair, Suspect};
pub use pipeline::{Pipeline, PipelineStatus};
pub use receipt::{Account, Brought, By, Fates, Loss, Receipt};
pub use sandbox::Sandbox;
pub use task::{Task, TaskStatus};
pub use time::Timestamp;
pub use usage::{ContextUse, Cost, CostSource, Usage};
