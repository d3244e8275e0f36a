//! Child pipelines, resource groups, coverage, and what one failure does to the others.

use super::*;

impl Sim {
    /// Makes the child that is asked for, of this configuration; its id.
    fn child(&mut self, yaml: &str) -> u64 {
        let order = self.world.next_order().expect("a child is asked for");
        let plan = order.choice.apply(read(yaml)).expect("a choice that can be made");
        let child = Pipeline {
            name: None,
            id: order.pipeline,
            checkout: order.checkout.clone(),
            stages: plan.stages.clone(),
            jobs: Vec::new(),
            variables: order.variables.clone(),
            created_at: self.world.now().wall,
            auto_cancel: plan.auto_cancel,
            cancel_on_failure: false,
            source: "parent_pipeline",
            parent: Some(order.job),
            left_out: Vec::new(),
            canceled_by: None,
            choice: order.choice.clone(),
        };
        self.world.start_child(&order, child, plan);
        order.pipeline
    }

    fn finish_next(&mut self, state: &str) -> String {
        let (id, token) = self.take(&FULL).expect("a job");
        self.world.put(id, &token, &Update { state: "running".to_owned(), ..Update::default() });
        self.world.put(id, &token, &Update { state: state.to_owned(), ..Update::default() });
        self.world.jobs[&id].new.name.clone()
    }

    fn states(&self, pipeline: u64) -> Vec<String> {
        let view = self.world.pipeline_view(pipeline).expect("a pipeline");
        let jobs = view["jobs"].as_array().expect("jobs").iter();
        jobs.map(|job| format!("{} {}", job["name"].as_str().unwrap(), job["status"].as_str().unwrap())).collect()
    }
}

const PARENT: &str = "
down: {variables: {A: b}, trigger: {include: child.yml, strategy: depend}}
later: {stage: deploy, script: x}
";

#[tokio::test]
async fn a_job_that_depends_on_its_child_ends_as_the_child_does() {
    for (end, expected) in [("success", "later pending"), ("failed", "later skipped")] {
        let mut sim = Sim::new();
        let parent = sim.pipeline(read(PARENT));
        assert!(sim.take(&FULL).is_none(), "no runner gets a job that starts a pipeline");
        let child = sim.child("inner: {script: x}\n");
        assert_eq!(sim.states(parent), ["down running", "later created"]);
        let given = &sim.world.pipelines[&child].variables;
        assert!(given.iter().any(|variable| variable.key == "A" && variable.value == "b"), "{given:?}");
        assert_eq!(sim.finish_next(end), "inner");
        assert_eq!(sim.states(parent), [format!("down {end}"), expected.to_owned()]);
        let view = sim.world.pipeline_view(child).expect("a pipeline");
        assert_eq!(view["parent"]["pipeline"], parent);
    }
}

#[tokio::test]
async fn a_job_without_a_strategy_does_not_wait_for_its_child() {
    let mut sim = Sim::new();
    let parent = sim.pipeline(read("down: {trigger: {include: child.yml}}\nlater: {stage: deploy, script: x}\n"));
    sim.child("inner: {script: x}\n");
    assert_eq!(sim.states(parent), ["down success", "later pending"]);
}

#[tokio::test]
async fn canceling_the_parent_cancels_the_child_and_a_child_that_cannot_be_made_fails_its_job() {
    let mut sim = Sim::new();
    let parent = sim.pipeline(read(PARENT));
    let child = sim.child("inner: {script: x}\n");
    sim.world.cancel_pipeline(parent, false);
    assert_eq!(sim.states(child), ["inner canceled"]);
    assert_eq!(sim.states(parent), ["down canceled", "later canceled"]);

    let mut sim = Sim::new();
    let parent = sim.pipeline(read(PARENT));
    let order = sim.world.next_order().expect("a child is asked for");
    sim.world.refuse_child(order.job, "child.yml:1: no");
    assert_eq!(sim.states(parent), ["down failed", "later skipped"]);
    let view = sim.world.pipeline_view(parent).expect("a pipeline");
    assert_eq!(view["jobs"][0]["note"], "its pipeline could not be made: child.yml:1: no");
}

#[tokio::test]
async fn children_of_children_end_at_the_second() {
    let mut sim = Sim::new();
    sim.pipeline(read(PARENT));
    sim.child(PARENT);
    sim.child(PARENT);
    assert!(sim.world.next_order().is_none());
    let notes: Vec<&str> = sim.world.jobs.values().filter_map(|job| job.note.as_deref()).collect();
    assert!(notes.iter().any(|note| note.contains("nested deeper than 2 levels")), "{notes:?}");
}

#[tokio::test]
async fn jobs_of_one_resource_group_run_one_after_another() {
    let mut sim = Sim::new();
    sim.pipeline(read("a: {script: x, resource_group: g}\nb: {script: x, resource_group: g}\nc: {script: x}\n"));
    let (first, token) = sim.take(&FULL).expect("a job");
    let (other, _) = sim.take(&FULL).expect("a job of no group");
    assert_eq!([first, other].map(|id| sim.world.jobs[&id].new.name.clone()), ["a", "c"]);
    assert!(sim.take(&FULL).is_none(), "the group is taken");
    let before = sim.world.last_update();
    sim.world.put(first, &token, &Update { state: "running".to_owned(), ..Update::default() });
    sim.world.put(first, &token, &Update { state: "success".to_owned(), ..Update::default() });
    assert_ne!(sim.world.last_update(), before, "who waits for jobs is told");
    assert!(sim.take(&FULL).is_some());
}

#[tokio::test]
async fn coverage_is_the_last_number_that_its_pattern_finds() {
    let mut sim = Sim::new();
    sim.pipeline(read("a: {script: x, coverage: '/lines: (\\d+\\.\\d)%/'}\n"));
    let (id, token) = sim.take(&FULL).expect("a job");
    sim.world.put(id, &token, &Update { state: "running".to_owned(), ..Update::default() });
    let log = "2026-01-31T12:00:00.000000Z 00O lines: 12.5%\n2026-01-31T12:00:00.000000Z 00O lines: 80.1% \n";
    sim.world.patch(id, &token, Some(&format!("0-{}", log.len() - 1)), log.as_bytes());
    sim.world.put(id, &token, &Update { state: "success".to_owned(), ..Update::default() });
    assert_eq!(sim.world.jobs[&id].view()["coverage"], 80.1);
}

#[tokio::test]
async fn one_failure_cancels_the_others_if_the_workflow_says_so() {
    let mut sim = Sim::new();
    let yaml = "workflow: {auto_cancel: {on_job_failure: all}}\na: {script: x}\nb: {script: x}\n";
    let pipeline = sim.pipeline(read(yaml));
    sim.finish_next("failed");
    assert_eq!(sim.states(pipeline), ["a failed", "b canceled"]);
}

#[tokio::test]
async fn a_job_of_a_child_is_chosen_by_its_name_behind_that_of_its_parent() {
    let child = "{build: {script: x, artifacts: {paths: [x]}}, test: {stage: deploy, script: x}, docs: {script: x}, gate: {script: x, when: manual}}";
    for (asked, in_parent, in_child) in [
        (vec!["down › docs"], vec!["down"], vec!["docs pending"]),
        (vec!["down > test"], vec!["down"], vec!["build pending", "test created"]),
        (vec!["down > gate", "down > docs"], vec!["down"], vec!["docs pending", "gate pending"]),
        (vec!["down"], vec!["down"], vec!["build pending", "test created", "docs pending", "gate manual"]),
        (
            vec!["down > docs", "down", "later"],
            vec!["down", "later"],
            vec!["build pending", "test created", "docs pending", "gate manual"],
        ),
    ] {
        let mut sim = Sim::new();
        let jobs = asked.iter().map(|name| (*name).to_owned()).collect();
        let choice = Choice { jobs: Some(jobs), with_needs: true, ..Choice::default() };
        let plan = choice.apply(read(PARENT)).expect("a choice that can be made");
        let names: Vec<&str> = plan.jobs.iter().map(|job| job.name.as_str()).collect();
        assert_eq!(names, in_parent, "{asked:?}");
        let parent = sim.pipeline(plan);
        sim.world.pipelines.get_mut(&parent).unwrap().choice = choice;
        let made = sim.child(child);
        let mut states = sim.states(made);
        states.sort_by_key(|state| in_child.iter().position(|expected| state == expected));
        assert_eq!(states, in_child, "{asked:?}");
    }
    let unknown = Choice { jobs: Some(vec!["nope".to_owned()]), ..Choice::default() };
    let what = unknown.apply(read(PARENT)).unwrap_err();
    assert_eq!(what, "no such jobs: nope; there are: down, later; the jobs of a child pipeline are \"down > NAME\"");
}
