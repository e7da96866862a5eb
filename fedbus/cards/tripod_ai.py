"""TRIPOD+AI: 27 items, 52 with their sub-items.

Collins GS et al. TRIPOD+AI statement: updated guidance for reporting clinical prediction models that use regression or
machine learning methods. BMJ 2024;385:e078378. doi:10.1136/bmj-2023-078378. The numbers, sections and what each item
asks about were checked against Table 2 of the statement, in two transcriptions made independently of each other (one
from Europe PMC, PMC11019967), which agree. The topics are in words of this project.
"""

from fedbus.cards import data_answers as data
from fedbus.cards import model_answers as model
from fedbus.cards import result_answers as results
from fedbus.cards.answer import for_you
from fedbus.cards.checklist import Checklist, Item

_OPENING = (
    Item(
        "1",
        "Title",
        "Title names development or evaluation, patients and outcome",
        for_you("Name in the title what was developed or evaluated, for which patients, and the outcome."),
    ),
    Item(
        "2",
        "Abstract",
        "Abstract by the list for abstracts",
        for_you("Write the abstract by the 13 points of TRIPOD+AI for Abstracts."),
    ),
    Item(
        "3a",
        "Introduction",
        "Medical context, reasons for the model, earlier models",
        for_you("Describe the medical context, why the model is needed, and earlier models."),
    ),
    Item(
        "3b",
        "Introduction",
        "Patients, purpose in their care, and users",
        for_you("Describe for which patients and users the model is meant, and at which point of care."),
    ),
    Item(
        "3c",
        "Introduction",
        "Known inequalities in health between groups of people",
        for_you("Describe known inequalities between groups of people."),
    ),
    Item("4", "Introduction", "Objectives: development, evaluation or both", results.objectives),
)

_METHODS = (
    Item("5a", "Methods", "Data: sources, reasons, and whom they represent", data.sources_and_reasons),
    Item(
        "5b",
        "Methods",
        "Data: dates",
        for_you("Give the first and the last date of the images; FedBUS reads no dates."),
    ),
    Item("6a", "Methods", "Participants: setting, number and place of the centres", data.centres),
    Item("6b", "Methods", "Participants: who could enter", data.eligibility),
    Item(
        "6c",
        "Methods",
        "Participants: treatments",
        for_you("Describe treatments before the images were taken, if any matter."),
    ),
    Item("7", "Methods", "Preparation and quality checks of the data", data.preparation),
    Item(
        "8a",
        "Methods",
        "Outcome: definition, time, assessment",
        for_you("Define the classes, say how and when each image's class was established, and why this outcome."),
    ),
    Item(
        "8b",
        "Methods",
        "Outcome: who judged it",
        for_you("Describe the training and experience of the people who established the classes."),
    ),
    Item(
        "8c",
        "Methods",
        "Outcome: blinding",
        for_you("Say what the people who established the classes knew about the patient."),
    ),
    Item("9a", "Methods", "Predictors: choice before modelling", model.predictors),
    Item(
        "9b",
        "Methods",
        "Predictors: definition and measurement",
        for_you("Describe how and when the images were taken, with which devices, and what the examiners knew."),
    ),
    Item(
        "9c",
        "Methods",
        "Predictors: who measured them",
        for_you("Describe the training and experience of the people who took and selected the images."),
    ),
    Item("10", "Methods", "Size of the study and its reasons", data.sample_size),
    Item("11", "Methods", "Missing and omitted data", data.missing_data),
    Item("12a", "Methods", "Analysis: use of the data, split", data.use_of_data),
    Item("12b", "Methods", "Analysis: transformation of the predictors", model.input_handling),
    Item("12c", "Methods", "Analysis: type of model, steps, tuning, internal validation", model.building_steps),
    Item("12d", "Methods", "Analysis: differences between centres", results.heterogeneity),
    Item("12e", "Methods", "Analysis: measures of performance and comparisons", results.measures),
    Item("12f", "Methods", "Analysis: updating of the model after evaluation", model.updating),
    Item("12g", "Methods", "Analysis: how predictions were calculated", model.calculation),
    Item("13", "Methods", "Unequal class sizes", model.class_imbalance),
    Item("14", "Methods", "Fairness", results.fairness),
    Item("15", "Methods", "Output of the model, classes and thresholds", model.output),
    Item("16", "Methods", "Differences between development and evaluation data", data.training_against_evaluation),
    Item(
        "17",
        "Methods",
        "Ethics approval and consent",
        for_you("Name the ethics committee and its decision, and how patients consented or why they did not have to."),
    ),
)

_OPEN_SCIENCE = (
    Item("18a", "Open science", "Funding", for_you("Name the funders and their role.")),
    Item("18b", "Open science", "Conflicts of interest", for_you("Declare the interests of all authors.")),
    Item("18c", "Open science", "Protocol", for_you("Say where the protocol is, or that there is none.")),
    Item("18d", "Open science", "Registration", for_you("Give register and number, or say that it is not registered.")),
    Item("18e", "Open science", "Availability of the data", model.data_sharing),
    Item("18f", "Open science", "Availability of the code", model.code),
    Item(
        "19",
        "Patient and public involvement",
        "Involvement of patients and the public",
        for_you("Say how patients or the public took part in the study, or that they did not."),
    ),
)

_RESULTS = (
    Item("20a", "Results", "Flow of participants", data.flow),
    Item("20b", "Results", "Characteristics of participants, for each source", data.characteristics),
    Item("20c", "Results", "Characteristics in evaluation against development", data.comparison_with_development),
    Item("21", "Results", "Participants and outcomes in each analysis", data.numbers_in_analyses),
    Item("22", "Results", "The full model, and access to it", model.specification),
    Item("23a", "Results", "Performance with intervals, also in subgroups", results.performance_with_subgroups),
    Item("23b", "Results", "Performance at each centre", results.heterogeneity_results),
    Item("24", "Results", "The updated model and its performance", model.updating),
)

_DISCUSSION = (
    Item("25", "Discussion", "Interpretation", results.interpretation),
    Item("26", "Discussion", "Limits", results.limitations),
    Item(
        "27a",
        "Discussion",
        "Use: poor or missing input",
        for_you("Say what users do with images that are poor or missing."),
    ),
    Item(
        "27b",
        "Discussion",
        "Use: part and skill of the users",
        for_you("Say what users have to do, and which experience that takes."),
    ),
    Item(
        "27c",
        "Discussion",
        "Next steps of research",
        for_you("Describe the next steps, in particular tests at other hospitals."),
    ),
)

TRIPOD_AI = Checklist(
    "tripod_ai.md",
    "TRIPOD+AI checklist",
    "Collins et al., BMJ 2024;385:e078378, doi:10.1136/bmj-2023-078378.",
    (*_OPENING, *_METHODS, *_OPEN_SCIENCE, *_RESULTS, *_DISCUSSION),
)
