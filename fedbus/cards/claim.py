"""CLAIM, 2024 update: 44 items.

Tejani AS et al. Checklist for Artificial Intelligence in Medical Imaging (CLAIM): 2024 Update. Radiology: Artificial
Intelligence 2024;6(4):e240300. doi:10.1148/ryai.240300. The numbers, sections and what each item asks about were
checked against two transcriptions made independently of each other (one a web edition with explanations of every
item), which agree. The topics are in words of this project.
"""

from fedbus.cards import data_answers as data
from fedbus.cards import model_answers as model
from fedbus.cards import result_answers as results
from fedbus.cards.answer import for_you
from fedbus.cards.checklist import Checklist, Item

_OPENING = (
    Item(
        "1",
        "Title and abstract",
        "Title or abstract name the kind of AI",
        for_you("Name deep learning, or the kind of network, in the title or abstract."),
    ),
    Item(
        "2",
        "Title and abstract",
        "Abstract: design, methods, results, conclusions",
        for_you("Summarise design, methods, results and conclusions."),
    ),
    Item(
        "3",
        "Introduction",
        "Background, intended use and role",
        for_you("Describe the background, and what the model is meant to do in care."),
    ),
    Item("4", "Introduction", "Aims and hypotheses", results.objectives),
)

_DATA = (
    Item(
        "5",
        "Methods: study design",
        "Prospective or retrospective",
        for_you("Say whether the images were collected before or for the study."),
    ),
    Item("6", "Methods: study design", "Goal of the study", results.goal),
    Item("7", "Methods: data", "Sources of the data", data.sources),
    Item("8", "Methods: data", "Who and what could enter", data.eligibility),
    Item("9", "Methods: data", "Preprocessing", data.preparation),
    Item("10", "Methods: data", "Parts of the data that were used", data.subsets),
    Item("11", "Methods: data", "De-identification", data.deidentification),
    Item("12", "Methods: data", "Missing data", data.missing_data),
    Item(
        "13",
        "Methods: data",
        "How images were acquired",
        for_you("Describe devices, probes and settings with which the images were taken."),
    ),
    Item(
        "14",
        "Methods: reference standard",
        "Definition of the reference standard",
        for_you("Say how the class of an image was established, for example by histology."),
    ),
    Item(
        "15",
        "Methods: reference standard",
        "Reasons for the reference standard",
        for_you("Say why you chose this reference standard, and what its errors can be."),
    ),
    Item(
        "16",
        "Methods: reference standard",
        "Origin of the annotations",
        for_you("Say who established the classes, with which experience, and how."),
    ),
    Item(
        "17",
        "Methods: reference standard",
        "Annotation of the test images",
        for_you("Say how the classes of the test images were established, if differently from training."),
    ),
    Item(
        "18",
        "Methods: reference standard",
        "Agreement of the annotators",
        for_you("Give the agreement between readers and within a reader, or say that it is unknown."),
    ),
    Item("19", "Methods: data partitions", "Assignment to the splits", data.use_of_data),
    Item("20", "Methods: data partitions", "Level at which the splits are disjoint", data.disjoint),
    Item("21", "Methods: testing data", "Intended sample size", data.sample_size),
)

_MODEL = (
    Item("22", "Methods: model", "The model in detail", model.architecture),
    Item("23", "Methods: model", "Software with versions", model.software),
    Item("24", "Methods: model", "Initial weights", model.start),
    Item("25", "Methods: training", "Training in detail", model.training),
    Item("26", "Methods: training", "Choice of the final model", model.selection),
    Item("27", "Methods: training", "Combined models", model.ensembles),
    Item("28", "Methods: evaluation", "Measures of performance", results.measures),
    Item("29", "Methods: evaluation", "Significance and uncertainty", results.intervals),
    Item("30", "Methods: evaluation", "Robustness", results.robustness),
    Item("31", "Methods: evaluation", "Explanations of predictions", results.explanations),
    Item("32", "Methods: evaluation", "Evaluation on internal data", results.internal),
    Item("33", "Methods: evaluation", "Test on external data", results.external),
    Item(
        "34",
        "Methods: evaluation",
        "Registration as a clinical trial",
        for_you("Give register and number, or say that the study is no clinical trial."),
    ),
)

_CLOSING = (
    Item("35", "Results: data", "Patients or examinations included and left out", data.flow),
    Item("36", "Results: data", "Patients and disease in each split", data.characteristics),
    Item("37", "Results: model performance", "Performance with uncertainty", results.performance_with_subgroups),
    Item("38", "Results: model performance", "Diagnostic performance with precision", results.diagnostic_performance),
    Item("39", "Results: model performance", "Analysis of wrong predictions", results.failures),
    Item("40", "Discussion", "Limits", results.limitations),
    Item(
        "41",
        "Discussion",
        "Consequences for practice",
        for_you("Say what follows for practice, and for which use."),
    ),
    Item(
        "42",
        "Other information",
        "Protocol and technical details",
        for_you("Say where the protocol or further technical details are."),
    ),
    Item("43", "Other information", "Availability of software, model and data", model.availability),
    Item("44", "Other information", "Funding", for_you("Name the funders and their role.")),
)

CLAIM = Checklist(
    "claim.md",
    "CLAIM checklist, 2024 update",
    "Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300, doi:10.1148/ryai.240300.",
    (*_OPENING, *_DATA, *_MODEL, *_CLOSING),
)
