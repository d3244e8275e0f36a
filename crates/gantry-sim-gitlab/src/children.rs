//! Makes the pipelines that jobs start: reads their configuration where it blocks nobody, and hands
//! the plan to the state, which decides everything else.

use crate::ci::{CiPipeline, Problem};
use crate::hub::{Hub, SharedHub};
use crate::reading::{self, Reading, Unread};
use crate::state::bridges::{FROM_PARENT, Order};
use crate::state::pipelines::Pipeline;
use crate::variables::Origin;

/// Makes children until the server stops, one after another.
pub(crate) async fn make(hub: &SharedHub) {
    let mut stopping = hub.stopping.subscribe();
    let wake = hub.world().bridge_wake.clone();
    loop {
        loop {
            let order = hub.world().next_order();
            let Some(order) = order else { break };
            tokio::select! {
                () = one(hub, order) => {}
                _ = stopping.wait_for(|stopping| *stopping) => return,
            }
        }
        tokio::select! {
            () = wake.notified() => {}
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

async fn one(hub: &Hub, order: Order) {
    match plan(hub, &order).await {
        Ok(plan) => {
            let pipeline = child(hub, &order, &plan);
            hub.world().start_child(&order, pipeline, plan);
        }
        Err(why) => hub.world().refuse_child(order.job, &why),
    }
}

async fn plan(hub: &Hub, order: &Order) -> Result<CiPipeline, String> {
    let (url, now) = {
        let world = hub.world();
        (world.url.clone(), world.now().wall.to_string())
    };
    let origin = Origin { id: order.pipeline, created_at: &now, source: FROM_PARENT };
    let mut known = reading::predefined(&url, &order.checkout, &origin);
    let of_project = hub.variables.iter().filter(|variable| variable.project == order.checkout.repo.name);
    known.extend(of_project.map(|variable| (variable.key.clone(), variable.value.clone())));
    known.extend(order.variables.iter().map(|variable| (variable.key.clone(), variable.value.clone())));
    let reading = Reading {
        checkout: order.checkout.clone(),
        copies: hub.copies.clone(),
        known,
        inputs: order.trigger.inputs.clone(),
        config: Some((order.config_name.clone(), order.trigger.config.clone())),
        archives: order.archives.clone(),
    };
    let plan = reading::read(reading).await.map_err(|unread| match unread {
        Unread::Invalid(problems) => problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("; "),
        Unread::NotInTime => "its configuration could not be read in time".to_owned(),
    })?;
    let plan = order.choice.apply(plan)?;
    if plan.jobs.is_empty() { Err("its rules leave out every job".to_owned()) } else { Ok(plan) }
}

fn child(hub: &Hub, order: &Order, plan: &CiPipeline) -> Pipeline {
    let project = &order.checkout.repo.name;
    let variables = crate::api::of_project(hub, project).chain(order.variables.iter().cloned()).collect();
    Pipeline {
        id: order.pipeline,
        checkout: order.checkout.clone(),
        name: plan.name.clone(),
        stages: plan.stages.clone(),
        jobs: Vec::new(),
        variables,
        created_at: hub.world().now().wall,
        auto_cancel: plan.auto_cancel,
        cancel_on_failure: plan.cancel_on_failure,
        source: FROM_PARENT,
        parent: Some(order.job),
        left_out: plan.left_out.clone(),
        canceled_by: None,
        choice: order.choice.clone(),
    }
}
